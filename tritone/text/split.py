"""Checks on request text, and its division into segments that are synthesised one after another."""

from __future__ import annotations

import re
from collections.abc import Callable

from tritone.errors import InvalidRequest

MAX_CHARACTERS = 5000
SEGMENT_LENGTH = 80
_SHORT = 20
_DIGIT_COST = 6

_SENTENCE_END = re.compile(
    r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[A-Z0-9])|(?<=[。！？])(?![」』”’）])|(?<=[。！？][」』”’）])|\n+"""
)
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Jr|Sr|vs|etc|No|Fig|Gen|Col|Lt|Sgt|Rev|Hon)|\b[A-Za-z])\.$")
_CLAUSE_END = re.compile(
    r"(?<=[,;:])\s+|\s+(?=[-–—]{1,2}\s)|(?<=[，、；：])|(?<=[^\x00-\u02ff][,;:!?])(?=[^\x00-\u02ff])"
)
_ATOM = re.compile(
    r"\d+(?:[.,:/-]\d+)*(?:[A-Za-z%°℃‰²³]+|[\u4e00-\u9fff]{0,2})|[A-Za-z\d]+(?:[.'’-][A-Za-z\d]+)*|\S|\s"
)


def check_text(text: str | bytes, field: str = "target_text") -> str:
    """Return the text, decoded and without surrounding space.

    Raises InvalidRequest naming `field` when it is not UTF-8, is longer than `MAX_CHARACTERS`, or has no letter or
    digit to speak.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequest(field, f"not valid UTF-8 (byte {error.start}: {error.reason})") from error
    text = text.strip()
    if not text:
        raise InvalidRequest(field, "the text is empty")
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(field, f"{len(text)} characters; the limit is {MAX_CHARACTERS}, send it in parts")
    if not any(character.isalnum() for character in text):
        raise InvalidRequest(field, f"nothing to speak in {text[:40]!r}: no letter or digit")
    return text


def spoken_length(text: str) -> int:
    """About how many symbols the text takes to say: its characters, digits counting as the words they become."""
    return len(text) + (_DIGIT_COST - 1) * sum(character.isdigit() for character in text)


def split_text(text: str, limit: int = SEGMENT_LENGTH, words: Callable[[str], list[str]] | None = None) -> list[str]:
    """Return the text in order as segments of about `limit` (in `spoken_length`), each with something to speak.

    Cuts at sentence ends, in sentences too long at clause ends, then between words; what has no spaces is cut only
    when it alone is too long, and never inside a number, be it longer than the limit. A very short sentence joins its
    neighbour when both fit.

    Args:
        words: divides a stretch without spaces (Chinese, Japanese) into its words; without it, characters are words.
    """
    segments: list[str] = []
    for sentence in _sentences(text):
        for piece in _shorten(sentence, limit, words or _atoms):
            joined = _joined(segments[-1], piece) if segments else piece
            short = segments and min(spoken_length(segments[-1]), spoken_length(piece)) < _SHORT
            if short and spoken_length(joined) <= limit:
                segments[-1] = joined
            else:
                segments.append(piece)
    return segments


def _sentences(text: str) -> list[str]:
    """Sentences, abbreviations and initials not ending one."""
    sentences: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        before = text[start : match.start()]
        if "\n" in match.group() or not _ABBREVIATION.search(before):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [s for s in sentences if any(c.isalnum() for c in s)]


def _shorten(sentence: str, limit: int, divide: Callable[[str], list[str]]) -> list[str]:
    """Return the sentence in pieces within the limit, cut at the best places that suffice."""
    if spoken_length(sentence) <= limit:
        return [sentence]
    words = [part for word in sentence.split() for part in _cut_word(word, limit, divide)]
    clauses = [clause for clause in _CLAUSE_END.split(sentence) if clause]
    if len(clauses) > 1 and all(spoken_length(clause) <= limit for clause in clauses):
        return _pack(clauses, limit)
    if len(clauses) > 1:
        return _pack([piece for clause in clauses for piece in _shorten(clause, limit, divide)], limit)
    # Without punctuation to cut at, pieces of about equal length sound better than a full one and a stub.
    count = -(-spoken_length(sentence) // limit)
    even = max(spoken_length(sentence) // count + max(map(spoken_length, words)), 1)
    return _pack(words, min(limit, even))


def _pack(parts: list[str], limit: int) -> list[str]:
    """Neighbouring parts joined as long as they fit."""
    packed: list[str] = []
    for part in parts:
        if packed and spoken_length(_joined(packed[-1], part)) <= limit:
            packed[-1] = _joined(packed[-1], part)
        else:
            packed.append(part)
    return [piece.strip() for piece in packed if any(c.isalnum() for c in piece)]


def _joined(first: str, second: str) -> str:
    """Return two parts with a space between them, but for scripts that have none."""
    spaced = max(first[-1:], second[:1]) < "\u2e80"
    return f"{first}{' ' * spaced}{second}"


def _cut_word(word: str, limit: int, divide: Callable[[str], list[str]]) -> list[str]:
    """Return a stretch without spaces in parts of at most `limit` and about the same length, one part if it fits.

    A part is longer only where a number alone is.
    """
    length = spoken_length(word)
    if length <= limit:
        return [word]
    even = length / -(-length // limit)
    pieces = [part for piece in divide(word) for part in _fitting(piece, limit)]
    parts = [""]
    for piece in pieces:
        joined = spoken_length(parts[-1] + piece)
        if parts[-1] and (joined > limit or joined - even > even - spoken_length(parts[-1])):
            parts.append("")
        parts[-1] += piece
    return parts


def _fitting(piece: str, limit: int) -> list[str]:
    """Return a word in pieces that fit, except for a number longer than that."""
    if spoken_length(piece) <= limit:
        return [piece]
    atoms = _atoms(piece)
    return atoms if len(atoms) > 1 else [piece] if any(c.isdigit() for c in piece) else list(piece)


def _atoms(word: str) -> list[str]:
    """Return the pieces of a stretch that may be parted: characters, but numbers and Latin words as a whole."""
    return _ATOM.findall(word)
