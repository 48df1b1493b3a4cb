"""`metadata.csv`: the text of each recording, in columns whose meaning is given, or decided by evidence, or refused.

Forms that are understood: `id|text`, `id|text|normalised` (LJSpeech), `id|text|speaker`, `id|speaker|text` (Piper), and
four columns of these. `training.corpus.columns` says by what evidence.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.corpus.columns import HEADINGS, MEANINGS, decide
from training.corpus.recordings import Recordings
from tritone.errors import ConfigError

METADATA_BYTES = 1 << 30
SHOWN = 5
"""Lines that an error lists."""
SEPARATORS = {"\t": "tabs", ";": "semicolons", "｜": "full-width bars", ",": "commas"}
"""What other programs put between columns, likeliest first."""
MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """An utterance as the file has it; `speaker` is "" if no column names speakers."""

    line: int
    id: str
    speaker: str
    text: str


@dataclass(frozen=True)
class Metadata:
    """The rows of a file, the meaning of its columns, and what was skipped."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the columns and what was skipped, for the user to read."""
        return "; ".join([f"columns: {', '.join(self.columns)}", *self.notes])


def read_metadata(path: Path, columns: Sequence[str] | None = None) -> Metadata:
    """Return the rows of a `metadata.csv` beside its folder `wavs/`.

    Args:
        columns: the meaning of each column, of "id", "text", "normalised", "speaker" and "-", which is ignored.

    Raises:
        ConfigError: the file is missing, in another encoding or with another separator; lines have different numbers of
            columns; the meaning of the columns is not clear, and the message says how to give it.
    """
    if columns is not None:
        check_columns(columns)
    recordings = Recordings(path.parent)
    table, notes = split_lines(read_lines(path), path, recordings)
    if not table:
        raise ConfigError(f"{path} has no lines; it should have `id|text` or `id|text|speaker`, one for a recording.")
    width = common_width(table, path)
    table = [(number, cells[:width]) for number, cells in table]
    heading = [HEADINGS.get(cell.strip().casefold(), "") for cell in table[0][1]]
    if "id" in heading and {"text", "normalised"} & set(heading) and not recordings.find(table[0][1][0])[0]:
        notes.append(f"line {table[0][0]} is a heading")
        table = table[1:]
        if columns is None and all(heading) and len(set(heading)) == width:
            columns = heading
    if not table:
        raise ConfigError(f"{path} has a heading and no lines after it.")
    if columns is None:
        columns = decide([cells for _, cells in table], path, recordings)
    if len(columns) != width:
        raise ConfigError(
            f"--columns {','.join(columns)} names {len(columns)} columns, but {path} has {width}, such as line "
            f"{table[0][0]}: {'|'.join(table[0][1])[:80]!r}."
        )
    at = {name: index for index, name in enumerate(columns) if name != "-"}
    spoken = at.get("normalised", at.get("text", 0))
    rows = [
        Row(number, cells[at["id"]].strip(), cells[at["speaker"]].strip() if "speaker" in at else "",
            cells[spoken].strip())
        for number, cells in table
    ]  # fmt: skip
    return Metadata(tuple(rows), tuple(columns), tuple(notes))


def check_columns(columns: Sequence[str]) -> None:
    """Raise ConfigError unless the names are known and each used once, an id and a text among them."""
    known = [name for name in columns if name in MEANINGS]
    wrong = [name for name in columns if name not in (*MEANINGS, "-")]
    if wrong or len(set(known)) != len(known) or "id" not in known or not {"text", "normalised"} & set(known):
        raise ConfigError(
            f"--columns {','.join(columns)} is not a list of columns: it needs id, and text or normalised, each once; "
            f"it may have speaker, and - for each column to ignore. For example: --columns id,text,speaker"
        )


def read_lines(path: Path) -> list[str]:
    r"""Return the lines of a UTF-8 text, with or without a byte-order mark; they end at \n or \r\n, or all at \r."""
    try:
        with open(path, "rb") as file:
            data = file.read(METADATA_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; it should have lines `id|text` or `id|text|speaker` for {path.parent}/wavs/ID.wav."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > METADATA_BYTES:
        raise ConfigError(f"{path} has more than {METADATA_BYTES} bytes; split the corpus")
    found = next((name for mark, name in MARKS if data.startswith(mark)), "")
    if not found and b"\0" in data:
        found = "UTF-16"
    if found:
        raise ConfigError(f"{path} is {found} text, not UTF-8; {_convert(path, found)}")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise ConfigError(
            f"{path} is not UTF-8 text: line {line} has the byte 0x{byte:02x}. If it is Latin-1 (Western Europe), "
            f"{_convert(path, 'LATIN1')}; GBK, BIG5 and SHIFT_JIS are other names"
        ) from error
    return re.split(r"\r?\n" if "\n" in text else "\r", text)


def _convert(path: Path, name: str) -> str:
    return f"convert it: iconv -f {name} -t UTF-8 '{path}' > new.csv"


def split_lines(
    lines: Sequence[str], path: Path, recordings: Recordings
) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Return the columns of every line with its number, and notes on lines that were skipped.

    A line that begins with # is a comment unless a recording has that name.
    """
    used = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    comments = {n for n, line in used if line.startswith("#") and not recordings.find(line.split("|")[0])[0]}
    used = [(number, line) for number, line in used if number not in comments]
    listed = ", ".join(map(str, sorted(comments)[:SHOWN])) + (", ..." if len(comments) > SHOWN else "")
    notes = [f"skipped as comments: line {listed}"] if comments else []
    if used and not any("|" in line for _, line in used):
        mark = next((mark for mark in SEPARATORS if all(mark in line for _, line in used)), "")
        what = f"they seem to be separated by {SEPARATORS[mark]}" if mark else "found none"
        raise ConfigError(
            f"{path}: columns are separated by '|', as in `id|text`; {what}, such as line {used[0][0]}: "
            f"{used[0][1][:60]!r}. Write the file again with '|' between the columns"
        )
    if used and all(line.startswith('"') for _, line in used):  # every cell, or at least every id, is in quotes
        return [(number, next(csv.reader([line], delimiter="|"))) for number, line in used], notes
    return [(number, line.split("|")) for number, line in used], notes


def common_width(table: Sequence[tuple[int, Sequence[str]]], path: Path) -> int:
    """Return the number of columns that all lines have, apart from empty ones at the end of all or of some."""
    sizes = {number: len(cells) for number, cells in table}
    filled = {
        number: max((i + 1 for i, cell in enumerate(cells) if cell.strip()), default=0) for number, cells in table
    }
    width = max(min(sizes.values()), max(filled.values()))
    short = [number for number, size in sizes.items() if size < width]
    if short:
        most = max(sizes, key=lambda number: sizes[number])
        listed = ", ".join(str(number) for number in short[:SHOWN]) + (", ..." if len(short) > SHOWN else "")
        raise ConfigError(
            f"{path}: every line needs the same columns separated by '|'; line {most} has {sizes[most]}, but line "
            f"{listed} has {sizes[short[0]]}. A text may not contain '|'"
        )
    width = max(filled.values()) if max(filled.values()) >= 2 else width
    if not 2 <= width <= 8:
        raise ConfigError(f"{path} has {width} columns separated by '|'; it needs 2 to 8: an id, a text and others.")
    return width
