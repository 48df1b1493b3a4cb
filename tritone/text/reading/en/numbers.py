"""English words of numbers: cardinals, ordinals, years, decimals, fractions, and digits one by one."""

from __future__ import annotations

from tritone.text.reading.tables import words

_SMALL = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = ("", "", *words("twenty thirty forty fifty sixty seventy eighty ninety"))
_SCALES = (
    "",
    *words("thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion"),
)
_ORDINALS = {
    **{"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"},
    "twelve": "twelfth",
}
LONGEST_NAMED = 3 * len(_SCALES)
"""A number of more digits has no name here and is read digit by digit."""
LONGEST_PLAIN = 15
"""A number written without commas is read digit by digit if it is longer: nobody counts in it."""

NUMBER = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?![\d]|,\d)|\d+)(?:\.\d+)?"
"""How a number is written, without its sign."""
AMOUNT = rf"(?:\d+[ -]\d+/\d+|\d+/\d+(?!/)|{NUMBER}|(?<![\w.,])\.\d+)"
"""A number or fraction that can stand before a unit."""


def cardinal(value: int | str) -> str:
    """Return a whole number in words, "and" before its last two digits: 1105 -> one thousand one hundred and five."""
    value = int(value)
    if len(str(value)) > LONGEST_NAMED:
        return digits(str(value))
    if value < 100:
        return _below_hundred(value)
    parts: list[str] = []
    groups: list[int] = []
    rest = value
    while rest:
        rest, group = divmod(rest, 1000)
        groups.append(group)
    for scale in range(len(groups) - 1, 0, -1):
        if groups[scale]:
            parts.append(f"{_below_thousand(groups[scale], '')} {_SCALES[scale]}")
    if last := groups[0]:
        joint = "and " if parts and last < 100 else ""
        parts.append(joint + _below_thousand(last, "and "))
    return " ".join(parts)


def ordinal(value: int | str) -> str:
    """Return the ordinal in words: 21 -> twenty first."""
    *rest, last = cardinal(value).split(" ")
    return " ".join([*rest, _ordinal_word(last)])


def _ordinal_word(word: str) -> str:
    return _ORDINALS.get(word) or (word[:-1] + "ieth" if word.endswith("y") else word.removesuffix("t") + "th")


def digits(text: str) -> str:
    """Return the digits of the text one by one: 02134 -> zero two one three four."""
    return " ".join(_SMALL[int(character)] for character in text if character.isdecimal())


def year(value: int | str) -> str:
    """Return a year as it is said: 1990 -> nineteen ninety, 1905 -> nineteen oh five, 2005 -> two thousand five."""
    value = int(value)
    century, rest = divmod(value, 100)
    if not 1000 <= value < 10000 or (century % 10 == 0 and rest < 10):
        return cardinal(value).replace("thousand and", "thousand")
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(words: str) -> str:
    """Return the plural of a number in words: nineteen ninety -> nineteen nineties."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def number(text: str) -> str:
    """Return a number as it is written (`NUMBER`) in words; one that begins with a needless 0 digit by digit."""
    whole, _, decimals = text.replace(",", "").partition(".")
    if not whole:
        words = "zero"
    elif (len(whole) > 1 and whole[0] == "0") or (len(whole) > LONGEST_PLAIN and "," not in text):
        words = digits(whole)
    else:
        words = cardinal(whole)
    return f"{words} point {digits(decimals)}" if decimals else words


def fraction(above: str, below: str) -> str:
    """Return a fraction in words: 3/8 -> three eighths, 22/7 -> twenty two over seven."""
    top, bottom = int(above), int(below)
    if bottom == 2 and top == 1:
        return "one half"
    if not 0 < top < bottom or not (bottom <= 20 or bottom in (30, 32, 40, 50, 60, 64, 100, 1000)) or bottom == 2:
        return f"{number(above)} over {number(below)}"
    part = "quarter" if bottom == 4 else ordinal(bottom)
    if part.startswith(("hundred", "thousand")):
        part = "one " + part
    return f"{number(above)} {part}{'s' if top > 1 else ''}"


def amount(text: str) -> tuple[str, bool]:
    """Return an `AMOUNT` in words, and whether what it counts stands in the singular."""
    if "/" not in text:
        return number(text), text.replace(",", "") in ("1", "1.0")
    whole, _, part = text.replace("-", " ").rpartition(" ")
    above, below = part.split("/")
    words = fraction(above, below)
    if not whole:
        return words, words.split(" ", 1)[0] == "one" and " over " not in words
    if " over " in words:
        return f"{number(whole)} and {words}", False
    named = words.replace("one half", "a half").replace("one quarter", "a quarter")
    if named.startswith("one "):
        named = ("an " if named.split(" ")[1][0] in "aeio" else "a ") + named[4:]
    return f"{number(whole)} and {named}", False


def _below_hundred(value: int) -> str:
    if value < 20:
        return _SMALL[value]
    return _TENS[value // 10] + (f" {_SMALL[value % 10]}" if value % 10 else "")


def _below_thousand(value: int, joint: str) -> str:
    hundreds, rest = divmod(value, 100)
    if not hundreds:
        return _below_hundred(rest)
    return f"{_SMALL[hundreds]} hundred" + (f" {joint}{_below_hundred(rest)}" if rest else "")
