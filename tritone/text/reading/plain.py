"""Text as people have it (copied from a PDF, typed with a wide keyboard) in plain characters of the same meaning.

This comes first, for every family and language. Unicode's own compatibility forms (NFKC) would do most of it, but they
change numbers: 10² would become 102, 1½ would become 11/2, ①② would become 12. They also change Chinese punctuation,
which the models were trained with. So single characters are replaced, by what Unicode says they stand for, and
superscripts stay: what reads the numbers of a language reads them as well.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
"""The superscripts that stay as they are; `DIGITS_ABOVE` turns them into plain characters."""
DIGITS_ABOVE = str.maketrans(SUPERSCRIPTS, "0123456789+-n")

_LINE_BREAKS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_FRACTION_IN_PIECES = re.compile("([⁰¹²³⁴-⁹]+)[\u2044\u2215/]([₀-₉]+)")
_KEYCAP = re.compile("([0-9#*])\ufe0f?\u20e3")
_ORDINAL_ABOVE = re.compile(r"(?<=\d)ⁿᵈ")
_BELOW = re.compile("[₀-₉₊₋]+")
_GROUPED = re.compile("(?<![\\d.,])[1-9]\\d{0,2}(?:[\u00a0\u2009\u202f]\\d{3})+(?![\\d\u00a0\u2009\u202f])")
# A wide comma between plain digits divides two numbers, and groups the digits of one only if they are wide as well.
_WIDE_COMMA = re.compile("(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")
_WIDE_BETWEEN_DIGITS = re.compile(r"(?<=\d)[．：](?=\d)")
_EDGE = "\ue000"  # stands, for a moment, at the edges of a number that was one character
_SEAM = re.compile(f"(?<=[^\\W_]){_EDGE}+(?=[^\\W_])")
_SAME = {
    **dict.fromkeys("\u2010\u2011\u2012\u2212\ufe63\uff0d\u02d7\u2796", "-"),
    **dict.fromkeys("\u2044\u2215", "/"),
    **{"\u066a": "%", "\u066b": ".", "\u066c": ",", "\ufe6a": "%", "\ufe62": "+", "\ufe5f": "#", "\ufe69": "$"},
    **dict.fromkeys("\u2122\u2120\u00ae", _EDGE),
    **{"\u2795": "+", "\U0001f51f": f"{_EDGE}10{_EDGE}", "\u20e3": ""},
}
# Simplified forms of the radicals supplement, for which Unicode has no compatibility form.
_RADICALS = dict(
    zip(
        "⺁⺌⺎⺝⺟⺠⺩⺫⺮⺻⻁⻂⻄⻅⻆⻇⻉⻋⻒⻓⻔⻗⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻪⻬⻮⻰⻳",
        "厂小兀月母民王目竹聿虎衣西见角言贝车长长门雨青韦页风飞食马骨鬼鱼鸟卤麦黄黾齐齿龙龟",
        strict=True,
    )
)
# Wide and small forms that keep their shape: punctuation of Chinese and Japanese, and what could become a tag.
_KEPT_WIDE = frozenset("，！？：；（）［］｛｝＜＞｜～．＂＇｀…‥″‴´¨¯¸‾＼﹤﹥﹛﹜﹝﹞")
_SPELLED_OUT = frozenset(
    f"<{form}>"
    for form in (
        *("compat", "wide", "narrow", "small", "font", "noBreak", "square", "circle", "super", "sub"),
        *("initial", "medial", "final", "isolated", "vertical"),
    )
)


def plain_text(text: str) -> str:
    """Return the text in plain characters, with the same words and the same numbers.

    Invisible marks and emoji are left out, every line break is "\\n", digits of all scripts are 0 to 9, every minus is
    "-", ligatures, full-width letters, Kangxi radicals and unit signs become the letters they stand for, and fractions
    are written out (1½ -> 1 1/2). Superscripts, and the punctuation of Chinese and Japanese, stay.
    """
    text = _LINE_BREAKS.sub("\n", text)
    if not text.isascii():
        text = _WIDE_COMMA.sub(",", text)
        text = _FRACTION_IN_PIECES.sub(_fraction_in_pieces, text)
        text = _KEYCAP.sub(r" \1 ", text)
        text = _ORDINAL_ABOVE.sub("nd", text)
        text = _GROUPED.sub(lambda match: re.sub(r"\D", "", match.group()), text)
        text = _BELOW.sub(_below, text)
        text = _SEAM.sub(" ", "".join(map(_plain, text))).replace(_EDGE, "")
        text = _WIDE_BETWEEN_DIGITS.sub(lambda match: {"．": ".", "：": ":"}[match.group()], text)
        text = unicodedata.normalize("NFC", text)
    return "".join(" " if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    """Return the plain form of one character, with edges around a number: Ａ -> A, ① -> 1."""
    if character in _SAME:
        return _SAME[character]
    if character.isascii() or character in SUPERSCRIPTS or character in _KEPT_WIDE:
        return character
    if character in _RADICALS:
        return _RADICALS[character]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    category = unicodedata.category(character)
    if category in ("Cf", "Co", "Cs") or "\ufe00" <= character <= "\ufe0f":
        return ""
    if category == "Zs":
        return " "
    if _is_emoji(character, category):
        return " "
    tag, *codes = unicodedata.decomposition(character).split() or [""]
    if tag == "<fraction>":
        return f"{_EDGE}{unicodedata.normalize('NFKC', character).replace(chr(0x2044), '/')}{_EDGE}"
    if category == "No" and unicodedata.numeric(character).is_integer() and (tag or "\u2776" <= character <= "\u2793"):
        return f"{_EDGE}{int(unicodedata.numeric(character))}{_EDGE}"
    if "\u3130" <= character <= "\u318f" or not tag.startswith("<"):
        return character
    stands_for = "".join(chr(int(code, 16)) for code in codes)
    if stands_for[:1] == " " or tag not in _SPELLED_OUT:
        return character
    return _EDGE * stands_for[0].isdigit() + "".join(map(_plain, stands_for))


def _is_emoji(character: str, category: str) -> bool:
    pictures = "\u2600" <= character <= "\u27bf" or "\u2b00" <= character <= "\u2bff"
    return (
        category in ("So", "Sk")
        and (pictures or "\U0001f000" <= character <= "\U0001faff")
        and (not unicodedata.decomposition(character))
    )


def _fraction_in_pieces(match: re.Match[str]) -> str:
    above, below = (unicodedata.normalize("NFKC", part) for part in match.groups())
    return _between_digits(match, f"{above}/{below}")


def _below(match: re.Match[str]) -> str:
    """Return subscripts as plain digits, apart from digits beside them: CO₂ -> CO2, log₂8 -> log2 8."""
    return _between_digits(match, unicodedata.normalize("NFKC", match.group()).replace("\u2212", "-"))


def _between_digits(match: re.Match[str], plain: str) -> str:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return f"{' ' * before.isdigit()}{plain}{' ' * after.isdigit()}"
