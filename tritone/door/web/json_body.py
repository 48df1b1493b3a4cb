"""JSON of requests: parsed within bounds, and written anew, so that Triton reads exactly what was checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from json.decoder import JSONArray  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from tritone.door.refusal import Refused

PIECE = 1 << 14
"""Characters of a list of numbers that are parsed at once; in between, other threads have their turn."""
MOST_LISTS = 100_000
"""Lists and objects in a body. Each takes fifty times the memory of its two brackets."""
Json = dict[str, Any]


def parse(data: bytes) -> Json:
    """Return the JSON object in a body; raise Refused for other JSON, endless nesting, and keys that come twice."""
    if data.count(b"[") + data.count(b"{") > MOST_LISTS:
        raise Refused("INVALID_ARGUMENT", f"the body has more than {MOST_LISTS} opening brackets")
    try:
        # As text, so that the parser does not guess at other encodings.
        value = _DECODER.decode(data.decode())
    except RecursionError:
        raise Refused("INVALID_ARGUMENT", "the body is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise Refused("INVALID_ARGUMENT", f"the body is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Refused("INVALID_ARGUMENT", "the body is not a JSON object")
    return value


def write(body: Json) -> bytes:
    """Return the body as JSON that every parser reads alike."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()


def unique(pairs: list[tuple[str, Any]]) -> Json:
    """Return the object of these pairs; parsers disagree about which of two equal keys counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def parse_array(place: tuple[str, int], scan_once: Callable[..., Any]) -> tuple[list[Any], int]:
    """Return the list that begins behind a bracket, and where it ends.

    The parser written in C lets no other thread run until it is done, which takes a second for a long recording. So a
    long list of plain values is handed to it in pieces.
    """
    text, begin = place
    end = text.find("]", begin)
    if end - begin < PIECE or any(text.find(mark, begin, end) >= 0 for mark in '"[{'):
        return JSONArray(place, scan_once)
    values: list[Any] = []
    while begin <= end:
        cut = text.find(",", begin + PIECE, end)
        cut = end if cut < 0 else cut
        piece = json.loads(f"[{text[begin:cut]}]")
        if not piece:
            raise ValueError(f"a value is missing at character {cut}")
        values += piece
        begin = cut + 1
    return values, end + 1


def _decoder() -> json.JSONDecoder:
    decoder: Any = json.JSONDecoder(object_pairs_hook=unique)
    decoder.parse_array = parse_array
    decoder.scan_once = py_make_scanner(decoder)
    return decoder


_DECODER = _decoder()
