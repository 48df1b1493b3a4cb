"""Roman numerals: chapters and wars are counted, kings and queens get an ordinal, and words stay words."""

from __future__ import annotations

import re
from collections.abc import Callable

from tritone.text.reading.en.numbers import cardinal, ordinal

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_VALID = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_COUNTED = (
    "Chapter|Volume|Act|Scene|Section|Article|Appendix|Phase|Title|World War|War|Super Bowl|Lesson|Canto|Figure|Table"
)
_COUNTED_OR_WORD = "Part|Book|Type|Class|Level|Stage|Unit|Episode|Season|Grade|Group|Category|Schedule|Mark"
_RULERS = (
    "Henry|Louis|George|Elizabeth|Charles|William|Edward|Richard|James|Philip|Napoleon|Paul|Benedict|Pius|Nicholas|"
    "Alexander|Catherine|Peter|Frederick|Wilhelm|Ramses|Ramesses|Leo|Gregory|Innocent|Clement|Urban|Mary|Victor|"
    "Ferdinand|Ivan|Otto|Leopold|Umberto|Juan Carlos|Felipe|Carl|Gustav|Christian|Haakon|Xerxes|Darius|Cyrus"
)
_AFTER_WORD = re.compile(rf"(?<!\w)((?:{_COUNTED})s?) ([IVXLCDM]+)(?!\w)", re.IGNORECASE)
_AFTER_DOUBTFUL = re.compile(rf"(?<!\w)((?:{_COUNTED_OR_WORD})s?) ([IVXLC]+)(?!\w)", re.IGNORECASE)
_RULER = re.compile(rf"(?<!\w)({_RULERS}) ([IVX]+)(?!\w)(?!\.\w)")
_CENTURY = re.compile(r"(?<!\w)([IVX]+)(?:th|st)?(?= centur(?:y|ies)\b)", re.IGNORECASE)
_PERSON_OR_WORK = re.compile(r"(?<!\w)([A-Z][a-z]+,? )([IVX]{2,})(?!\w)")
_NO_SENTENCE_WITH_I = re.compile(r"\s*(?:[.,;:!?)\"'-]|$|of\b|and\b|in\b|to\b)")


def roman_in_words(text: str) -> str:
    """Return the text with Roman numerals in words where something is counted with them."""
    text = _CENTURY.sub(lambda match: _words(match[1], ordinal) or match.group(), text)
    text = _AFTER_WORD.sub(_counted, text)
    text = _AFTER_DOUBTFUL.sub(lambda match: _counted(match) if _is_numeral(match) else match.group(), text)
    text = _RULER.sub(_ruler, text)
    return _PERSON_OR_WORK.sub(_other, text)


def _counted(match: re.Match[str]) -> str:
    words = _words(match[2], cardinal)
    return f"{match[1]} {words}" if words else match.group()


def _ruler(match: re.Match[str]) -> str:
    words = _words(match[2], ordinal)
    return f"{match[1]} the {words}" if words and _is_numeral(match) else match.group()


def _other(match: re.Match[str]) -> str:
    """Return a numeral after a name in words: a sequel is counted, a person (John Smith III) is the third."""
    words, before = _words(match[2], cardinal), match.string[: match.start()].rstrip()
    if not words:
        return match.group()
    surname = before.rpartition(" ")[2][:1].isupper() and before[-1:].isalpha()
    return f"{match[1]}the {_words(match[2], ordinal)}" if surname else f"{match[1]}{words}"


def _is_numeral(match: re.Match[str]) -> bool:
    """Return whether the numeral is none of the words I, or a letter: "Charles I" ends a clause, "Part I like"."""
    return len(match[2]) > 1 or bool(_NO_SENTENCE_WITH_I.match(match.string[match.end() :]))


def _words(numeral: str, say: Callable[[int], str]) -> str:
    """Return the numeral in words, "" if it is not well formed."""
    if not numeral.isupper() or not _VALID.fullmatch(numeral):
        return ""
    total = 0
    for character, following in zip(numeral, [*numeral[1:], ""], strict=True):
        value = _VALUES[character]
        total += -value if value < _VALUES.get(following, 0) else value
    return say(total)
