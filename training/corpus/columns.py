"""The meaning of the columns of a `metadata.csv`, decided only where what they hold leaves no doubt.

The id is the column that names recordings. Two columns of nearly the same words are a text and its normalised form. A
column of short names that come again and again names speakers, and so does one of single words beside sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from training.corpus.recordings import Recordings
from tritone.errors import ConfigError

MEANINGS = ("id", "text", "normalised", "speaker")
HEADINGS = {
    **dict.fromkeys(("id", "file", "filename", "file_name", "file_id", "wav", "wav_file", "audio", "audio_file"), "id"),
    **dict.fromkeys(("path", "name", "utterance", "utterance_id", "utt_id", "recording"), "id"),
    **dict.fromkeys(("text", "transcript", "transcription", "sentence", "raw_text", "original_text"), "text"),
    **dict.fromkeys(("normalised", "normalized", "normalised_text", "normalized_text", "clean_text"), "normalised"),
    **dict.fromkeys(("speaker", "speaker_name", "speaker_id", "spk", "voice"), "speaker"),
}
"""What the first line may call its columns."""
LOOKED_AT = 400
"""Lines that are compared, spread evenly over the file."""
ALIKE = 0.6
"""Share of equal characters from which two columns are forms of one text; unrelated sentences have 0.2 to 0.4."""
NAME_WORDS, NAME_LENGTH = 4, 40
"""Most words and characters of a speaker's name."""
SENTENCE_END = re.compile(r"[.!?。！？…,，、;；:：]$")
TOKEN = re.compile(r"[\w.\-]+")
OTHER = re.compile(r"(?i)(en|zh|ja|jp|ko|de|fr|es|it|ru|yue)([-_][a-z]{2,4})?|\d+\.\d+")
"""Languages and durations, which name no speaker."""
FEW = 20
"""Lines up to which single words beside sentences may all be different and still be speakers."""


def decide(table: Sequence[Sequence[str]], path: Path, recordings: Recordings) -> list[str]:
    """Return the meaning of each column.

    Raises:
        ConfigError: it is not clear; the message shows a line, and the options that say what is meant.
    """
    step = max(1, len(table) // LOOKED_AT)
    columns = [[cell.strip() for cell in column] for column in zip(*table[::step], strict=True)]
    at = id_column(columns, recordings)
    if at is None:
        raise unclear(table, path, "more than one column names recordings")
    others = [index for index in range(len(columns)) if index != at]
    meanings = [""] * len(columns)
    meanings[at] = "id"
    filled = [index for index in others if any(columns[index])]
    for index in others:
        meanings[index] = "" if index in filled else "-"
    found = texts_and_speakers([columns[index] for index in filled])
    if found is None:
        raise unclear(table, path, "whether a column is a text, its normalised form or the speaker is not clear")
    for index, meaning in zip(filled, found, strict=True):
        meanings[index] = meaning
    return meanings


def id_column(columns: Sequence[Sequence[str]], recordings: Recordings) -> int | None:
    """Return the column that names recordings: the first unless only another one does; None if others do as well."""
    counts = [sum(bool(cell and recordings.find(cell)[0]) for cell in column) for column in columns]
    most = max(counts)
    naming = [index for index, count in enumerate(counts) if count > most / 2]
    return 0 if not most else naming[0] if len(naming) == 1 else None


def texts_and_speakers(columns: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the meanings of the columns besides the id, or None without enough evidence."""
    if len(columns) == 1:
        return ["text"]
    if len(columns) == 2:
        first, second = columns
        if alike(first, second):
            return None if names(first, second) or names(second, first) else ["text", "normalised"]
        if names(second, first):
            return None if names(first, second) else ["text", "speaker"]
        return ["speaker", "text"] if names(first, second) else None
    if len(columns) != 3:
        return None
    found: list[list[str]] = []
    for index in range(3):
        texts = [column for other, column in enumerate(columns) if other != index]
        if alike(*texts) and all(names(columns[index], text) for text in texts):
            meanings = ["text", "normalised"]
            meanings.insert(index, "speaker")
            found.append(meanings)
    return found[0] if len(found) == 1 else None


def alike(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether two columns have nearly the same words on most lines."""
    pairs = [(a.casefold(), b.casefold()) for a, b in zip(first, second, strict=True) if a and b]
    if not pairs:
        return False
    ratios = [1.0 if a == b else SequenceMatcher(None, a[:200], b[:200], autojunk=False).ratio() for a, b in pairs]
    return sum(ratios) / len(ratios) >= ALIKE


def names(column: Sequence[str], beside: Sequence[str]) -> bool:
    """Return whether a column holds names of speakers, beside another column that then holds texts."""
    cells = [cell for cell in column if cell]
    if all(OTHER.fullmatch(cell) for cell in cells):
        return False
    if any(len(cell) > NAME_LENGTH or len(cell.split()) > NAME_WORDS or SENTENCE_END.search(cell) for cell in cells):
        return False
    different, lines = len(set(cells)), len(cells)
    again = lines > 1 and different <= lines / 2
    if again and len(set(beside)) > 2 * different:
        return True
    single = all(TOKEN.fullmatch(cell) for cell in cells) and all(len(cell.split()) > 1 for cell in beside if cell)
    return single and (again or lines <= FEW)


def unclear(table: Sequence[Sequence[str]], path: Path, why: str) -> ConfigError:
    """Return the error that asks for the meaning of the columns."""
    width = len(table[0])
    forms = {
        2: ["id,text", "text,id"],
        3: ["id,text,speaker", "id,speaker,text", "id,text,normalised"],
        4: ["id,text,normalised,speaker", "id,speaker,text,normalised"],
    }.get(width, ["id,text" + ",-" * (width - 2)])
    options = ", ".join(f"--columns {form}" for form in forms)
    return ConfigError(
        f"{path}: {why} in lines such as {'|'.join(table[0])[:100]!r}. Say what the {width} columns are ('-' ignores "
        f"one): {options}"
    )
