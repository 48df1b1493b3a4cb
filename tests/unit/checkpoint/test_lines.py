"""Lines end at a line feed alone, and a file that is no JSONL is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tritone.checkpoint.lines import read_json_lines, text_lines
from tritone.errors import CheckpointError, ConfigError

INSIDE = "".join(map(chr, (0x2028, 0x2029, 0x85, 0x0B, 0x0C, 0x1C, 0x1D, 0x1E)))
"""Characters at which `splitlines` cuts."""
EXAMPLE = '{"a": 1}'


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(f"\ufeffa{INSIDE}b\r\n \r\n\nc\rd\n".encode())
    assert text_lines(path) == [(1, f"a{INSIDE}b"), (4, "c\rd")]
    path.write_bytes(b"")
    assert text_lines(path) == []


def test_objects_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    told = {"text": f"x{INSIDE[:3]}y"}
    path.write_text(f"{json.dumps(told, ensure_ascii=False)}\n\n[1]\n{{\n null \r\n{EXAMPLE}", encoding="utf-8")
    first, second, third, fourth, last = read_json_lines(path, EXAMPLE)
    assert first == (1, told) and last == (6, {"a": 1})
    assert second == (3, "holds a list, not an object") and fourth == (5, "holds a NoneType, not an object")
    assert third.number == 4 and str(third.value).startswith("is not valid JSON: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n \r\n", r'x\.jsonl is empty; write one JSON object on each line, such as \{"a": 1\}'),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a,b\n1,2\n", r"x\.jsonl is no JSONL file: not one of its lines is a JSON object: line 1 is not valid JSON"),
        (b"\n[1, 2]\n", r"is no JSONL file: .*: line 2 holds a list, not an object\. Write one JSON object on each"),
        (b'[\n {"a": 1},\n {"a": 2}\n]', r"lines together are one JSON value, which `jq -c '\.\[\]'` splits"),
        (b'{\n "a": {}\n}', r"lines together are one JSON value, which `jq -c '\.'` splits"),
        (
            b'{"a": 1}\n{"a": "\xc4\xe3"}',
            r"x\.jsonl is not text in UTF-8: line 2: byte 0xc4 \(.*\); .*iconv -f GB18030",
        ),
        (
            '{"a": 1}'.encode("utf-16"),
            "line 1: byte 0xff .*, the byte-order mark of UTF-16; .*iconv -f UTF-16 -t",
        ),
        (b"[" * 100_000, "is no JSONL file: .*line 1 nests lists or objects too deeply"),
    ],
)
def test_what_is_no_jsonl_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_json_lines(path, EXAMPLE)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="is missing or not a file; give a file with one JSON object"):
            read_json_lines(path, EXAMPLE, CheckpointError)
