"""Text in segments of the length the published models were used with, each synthesised on its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

LONGEST = 80
"""A sentence joins the segment before it up to this length..."""
SHORTEST = 60
"""...but a segment is only closed once it is longer than this."""
STUB = 20
"""A last segment shorter than this joins the one before."""
BOUND = 2 * LONGEST
"""No segment is longer; a sentence that is gets cut at a comma, then at a space, then anywhere but inside a tag, a
number or a word in Latin letters."""

_MARKS = {True: "。？！；：、.?!;", False: ".?!;:"}
_CUTS = (
    re.compile(r".*?(?:(?:[，、；;：]|(?<!\d)[,:]|[,:](?!\d))\s*|\Z)", re.DOTALL),
    re.compile(r"\s*\S+\s*|\s+"),
    re.compile(
        r"<\|[^|<>]*\|>|\[[^\[\]\s]{1,20}\]|[零〇一二三四五六七八九十百千万亿億兆两幺点]{2,60}[\u4e00-\u9fff]?|[A-Za-z]{2,40}"
        r"|\d{1,60}(?:[.,:/-]\d{1,20})*(?:[A-Za-z]{1,8}|[%°℃\u4e00-\u9fff])?|.",
        re.DOTALL,
    ),
)


def paragraphs(text: str, length: Callable[[str], int], chinese: bool) -> list[str]:
    """Return the text in order as segments of about `SHORTEST` to `LONGEST`, as published, never more than `BOUND`.

    A final mark is added where it lacks one, and of several marks in a row the first is kept; what has nothing but
    punctuation is left out. A segment begins with the space that followed the one before.

    Args:
        length: of a piece of text; the published choice is characters of Chinese and tokens of other languages.
        chinese: which marks end a sentence, and whether a full stop is "。".
    """
    if not text.strip():
        return []
    segments: list[str] = []
    current = ""
    for sentence in _sentences(text, _MARKS[chinese], "。" if chinese else "."):
        if length(current + sentence) > LONGEST and length(current) > SHORTEST:
            segments.append(current)
            current = ""
        current += sentence
    if current and segments and length(current) < STUB:
        segments[-1] += current
    elif current:
        segments.append(current)
    return [piece for segment in segments for piece in bounded(segment, length) if not is_punctuation(piece)]


def is_punctuation(text: str) -> bool:
    """Return whether nothing but punctuation, symbols and space is in the text."""
    return all(unicodedata.category(character)[0] in "PSZC" for character in text)


def bounded(text: str, length: Callable[[str], int], limit: int = BOUND) -> list[str]:
    """Return the text in pieces of at most `limit` that join to it again, cut at the best places that suffice."""
    return _bounded(text, length, limit, 0)


def _sentences(text: str, marks: str, stop: str) -> list[str]:
    """Pieces that end with a mark and the quote that closes them; between two digits, . and : are no such mark."""
    if text[-1] not in marks:
        text += stop
    sentences: list[str] = []
    start = 0
    for match in re.finditer(f'(?!(?<=\\d)[.:]\\d)([{re.escape(marks)}])(["”]?)', text):
        if body := text[start : match.start()]:
            sentences.append(body + match[1])
        if match[2] and sentences:
            sentences[-1] += match[2]
        start = match.end()
    return sentences


def _bounded(text: str, length: Callable[[str], int], limit: int, cut: int) -> list[str]:
    if length(text) <= limit or cut == len(_CUTS):
        return [text]
    pieces = [piece for piece in _CUTS[cut].findall(text) if piece]
    return _packed(
        (part for piece in pieces for part in _bounded(piece, length, limit, cut + 1)),
        length,
        limit,
    )


def _packed(parts: Iterable[str], length: Callable[[str], int], limit: int) -> list[str]:
    """Neighbouring parts joined as long as they fit."""
    packed: list[str] = []
    for part in parts:
        if packed and length(packed[-1] + part) <= limit:
            packed[-1] += part
        else:
            packed.append(part)
    return packed
