"""Filelists in the published format: transcripts and cleaned utterances, one per line, with columns separated by `|`.

transcript  `wav|speaker|language|text`
cleaned     `wav|speaker|language|text|phones|tones|word2ph`, the last three separated by spaces, without blanks
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tritone.build.files import write_atomic
from tritone.errors import ConfigError

LANGUAGES = ("ZH", "JP", "EN")
SHOWN = 10
"""The number of problems of a file that an error lists."""

Row = TypeVar("Row", "Transcript", "Utterance")


@dataclass(frozen=True)
class Transcript:
    """A line to clean: recording, speaker, language and text."""

    wav: str
    speaker: str
    language: str
    text: str

    def line(self) -> str:
        """Return the line of the filelist, without line break."""
        return "|".join((self.wav, self.speaker, self.language, self.text))


@dataclass(frozen=True)
class Utterance:
    """A cleaned line, with phones, their tones, and the number of phones of each character or token of the text."""

    wav: str
    speaker: str
    language: str
    text: str
    phones: tuple[str, ...]
    tones: tuple[int, ...]
    word2ph: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.phones:
            raise ValueError("has no phones")
        if len(self.tones) != len(self.phones):
            raise ValueError(f"has {len(self.phones)} phones and {len(self.tones)} tones; there must be equally many")
        if min(self.word2ph, default=0) < 0 or sum(self.word2ph) != len(self.phones):
            raise ValueError(
                f"has {len(self.phones)} phones, but its word2ph sums to {sum(self.word2ph)}"
                f"{' and has a negative number' if min(self.word2ph, default=0) < 0 else ''}"
            )

    def line(self) -> str:
        """Return the line of the filelist, without line break."""
        spaced = (" ".join(map(str, column)) for column in (self.phones, self.tones, self.word2ph))
        return "|".join((self.wav, self.speaker, self.language, self.text, *spaced))


def parse_transcript(line: str) -> Transcript:
    """Return the record of a line; raise ValueError if it is invalid."""
    wav, speaker, language, text = _columns(line, ("wav", "speaker", "language", "text"))
    return Transcript(wav, speaker, _language(language), text)


def parse_utterance(line: str) -> Utterance:
    """Return the record of a line; raise ValueError if it is invalid or its lengths do not fit."""
    names = ("wav", "speaker", "language", "text", "phones", "tones", "word2ph")
    wav, speaker, language, text, phones, tones, word2ph = _columns(line, names)
    return Utterance(
        wav, speaker, _language(language), text, tuple(phones.split()), _numbers(tones, "tones"),
        _numbers(word2ph, "word2ph"),
    )  # fmt: skip


def read_transcripts(path: Path) -> list[Transcript]:
    """Return all records of a transcript; raise ConfigError with the numbers of invalid lines."""
    return [row for _, row in _read(path, parse_transcript, "a transcript")]


def read_utterances(path: Path) -> list[Utterance]:
    """Return all records of a cleaned filelist; raise ConfigError with the numbers of invalid lines."""
    return [row for _, row in _read(path, parse_utterance, "a cleaned filelist")]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file of these lines, atomically."""
    text = "".join(f"{line}\n" for line in lines)
    write_atomic(path, lambda file: file.write(text.encode()))


def _read(path: Path, parse: Callable[[str], Row], what: str) -> list[tuple[int, Row]]:
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist; it should be {what}: see `python -m training.bert_vits2.preprocess -h`."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error}); convert it, for example with iconv.") from error
    rows: list[tuple[int, Row]] = []
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append((number, parse(line.rstrip("\r"))))
            except ValueError as error:
                problems.append(f"line {number} {error}")
    if problems:
        rest = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ConfigError(f"{path} is not {what}:\n  " + "\n  ".join(problems[:SHOWN]) + rest)
    if not rows:
        raise ConfigError(f"{path} is empty; it should be {what}.")
    return rows


def _columns(line: str, names: tuple[str, ...]) -> list[str]:
    columns = [column.strip() for column in line.split("|")]
    if len(columns) != len(names):
        raise ValueError(f"has {len(columns)} columns separated by '|', needs {len(names)}: {'|'.join(names)}")
    for name, column in zip(names, columns, strict=True):
        if not column and name != "text":
            raise ValueError(f"has an empty {name}")
    return columns


def _language(name: str) -> str:
    if name.upper() not in LANGUAGES:
        raise ValueError(f"is in the unknown language {name!r}; the languages are {', '.join(LANGUAGES)}")
    return name.upper()


def _numbers(column: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in column.split())
    except ValueError as error:
        raise ValueError(f"has {name} that are not whole numbers: {column[:40]!r}") from error
