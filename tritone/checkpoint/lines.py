"""Lines of text files that users bring, and the objects of JSONL files.

A line ends at a line feed alone, with or without a carriage return before it. Other characters at which Python's
`splitlines` cuts, such as U+2028 and U+0085, may stand inside a sentence or a JSON string. Standard library alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tritone.checkpoint.documents import VOCABULARY, parse_json, read_text
from tritone.errors import ConfigError, TritoneError


class JsonLine(NamedTuple):
    """A line that is not blank: its number in the file, and its object or what is wrong with it."""

    number: int
    value: dict[str, Any] | str


def text_lines(path: Path, limit: int = VOCABULARY, kind: type[TritoneError] = ConfigError) -> list[tuple[int, str]]:
    """Return number and text of every line that is not blank, without its ending; errors as `read_text`."""
    return numbered(read_text(path, limit, kind))


def numbered(text: str) -> list[tuple[int, str]]:
    """Return number and text of every line of a text that is not blank, without its ending."""
    return [(n, line.removesuffix("\r")) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_json_lines(path: Path, example: str, kind: type[TritoneError] = ConfigError) -> list[JsonLine]:
    """Return the lines of a JSONL file that are not blank; one that is no object has its problem in words.

    Args:
        example: a line as it should be, for messages.

    Raises:
        TritoneError: of the given kind; the file is missing, not UTF-8, without a line, or no JSONL file: not one of
            its lines is an object, or its lines together are one JSON value.
    """
    if not path.is_file():
        raise kind(f"{path} is missing or not a file; give a file with one JSON object on each line")
    text = read_text(path, VOCABULARY, kind)
    lines = [JsonLine(number, _object(line)) for number, line in numbered(text)]
    if not lines:
        raise kind(f"{path} is empty; write one JSON object on each line, such as {example}")
    wrong = [line for line in lines if isinstance(line.value, str)]
    together = _together(text) if wrong else ""
    if together or len(wrong) == len(lines):
        reason = together or f"not one of its lines is a JSON object: line {wrong[0].number} {wrong[0].value}"
        raise kind(f"{path} is no JSONL file: {reason}. Write one JSON object on each line, such as {example}")
    return lines


def _object(line: str) -> dict[str, Any] | str:
    """Return the object in a line, or what is wrong with the line."""
    try:
        value = parse_json(line, "", strict=True)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair (\\ud800 to \\udfff), which is no character; write both halves"
    except ConfigError as error:
        return str(error).strip()
    return value if isinstance(value, dict) else f"holds a {type(value).__name__}, not an object"


def _together(text: str) -> str:
    """Return how to split a text whose several lines are one JSON value, "" for any other text."""
    if len(numbered(text)) < 2:
        return ""
    try:
        value = parse_json(text, "")
    except ConfigError:
        return ""
    return f"its lines together are one JSON value, which `jq -c '{'.[]' if isinstance(value, list) else '.'}'` splits"
