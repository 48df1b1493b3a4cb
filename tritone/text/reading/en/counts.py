"""The other numbers in words: ordinals, decades, powers, fractions, ranges, years, and plain cardinals."""

from __future__ import annotations

import re

from tritone.text.reading.en.abbreviations import MONTHS
from tritone.text.reading.en.numbers import NUMBER, amount, fraction, number, ordinal, plural, year
from tritone.text.reading.plain import DIGITS_ABOVE, SUPERSCRIPTS

_ORDINAL = re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+)\s?(?:st|nd|rd|th)(?!\w)", re.IGNORECASE)
_DECADE = re.compile(r"(?<![\w.,/])(')?(\d{2,4}0|\d0|\d{3,})'?s(?!\w)")
_SECONDS = re.compile(
    r"\b(?:hours?|minutes?|for|took|takes?|in|after|within|every|lasts?|lasted|about|only|exactly|under|over) $"
)
_HIS_TWENTIES = re.compile(r"\b(?:the|his|her|their|our|my|your|early|mid|late)[ -]$", re.IGNORECASE)
_SHORT_SECONDS = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d+)?)(\s?)s(?!\w)")
_ABOVE = "([" + SUPERSCRIPTS + r"]+|\^\(?[-+]?\w+\)?)"
_POWER = re.compile(rf"({NUMBER}|(?<![\w])[A-Za-z]+|\)){_ABOVE}")
_SCIENTIFIC = re.compile(rf"(?<![\w.])({NUMBER})[eE]([+-]?\d+)(?!\w)")
_SHORT_SCALE = re.compile(
    rf"(?<![\w.,])({NUMBER})\s?(k|K|M|bn|Bn|B|mn|mln|tn|T)\b(?!-|\s(?:video|display|tv|TV|run|race))"
)
_SCALES = {"k": "thousand", "M": "million", "m": "million", "b": "billion", "t": "trillion"}
_RESOLUTION = re.compile(r"(?<![\w.,])([248])K(?!\w)")
_TIMES = re.compile(rf"(?<![\w.,])({NUMBER})\s?[x×](?:(?=\s[a-z])|(?!\w|\s?\d))")
_BY = re.compile(r"(?<=\d)(?:\s[x×*]\s|[x×*])(?=\d)")
_LIST = re.compile(r"(?<![\w.,])\d+(?:,\d+)+(?![\w,])")
_MIXED_FRACTION = re.compile(r"(?<![\w.,/])(\d+[ -])?(\d+)/(\d+)(?![\w/]|\.\d)")
_SAID_SLASH = {"24/7": "twenty four seven", "9/11": "nine eleven", "50/50": "fifty fifty", "20/20": "twenty twenty"}
_RANGE = re.compile(rf"(?<![\w.,-])([-+]?{NUMBER})(\s?[–—]\s?|-)(?=[-+]?{NUMBER}(?![\w]*-\d))")
_NEGATIVE = re.compile(r"(?:(?<=[\s(\[=<>:,×÷*/^])|^)[-–](?=\.?\d)", re.MULTILINE)
_POSITIVE = re.compile(r"(?:(?<=[\s(\[=<>])|^)([+±])\s?(?=\.?\d)", re.MULTILINE)
_YEAR_SIGNS = re.compile(
    r"\b(?:in|since|year|years|by|until|till|from|before|after|circa|around|during|of|to|between|and|AD|BC"
    rf"|{'|'.join(MONTHS)}|spring|summer|fall|autumn|winter) $",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\s(?:(?!(?:was|is|has|as|this|its|his|always|perhaps|does|plus|versus|pass|less|across)\b)[a-z]+s"
    r"|people|men|women|children|million|billion)\b"
)
_AN_ERA = re.compile(r"\s?(?:BC|BCE|AD|CE|B\.C\.|A\.D\.)")
_DECIMAL_LIST = re.compile(rf"(?<![\w]){NUMBER}|(?<![\w.,])\.\d+|\d+")


def counts_in_words(text: str) -> str:
    """Return the text with every number in it in words."""
    text = _ORDINAL.sub(lambda match: ordinal(match[1].replace(",", "")), text)
    text = _DECADE.sub(_decade, text)
    text = _SHORT_SECONDS.sub(lambda m: f"{number(m[1])} second{'' if m[1] == '1' else 's'}", text)
    text = _SCIENTIFIC.sub(lambda m: f"{number(m[1])} times ten to the power of {_signed(m[2])}", text)
    text = _NEGATIVE.sub("minus ", text)
    text = _POSITIVE.sub(lambda match: {"+": "plus ", "±": "plus or minus "}[match[1]], text)
    text = _POWER.sub(_power, text)
    text = _RESOLUTION.sub(lambda match: f"{number(match[1])} K", text)
    text = _SHORT_SCALE.sub(lambda m: f"{number(m[1])} {_SCALES.get(m[2][0], '') or _SCALES[m[2][0].lower()]}", text)
    text = _BY.sub(lambda match: " by " if match.group() in "x×" else " times ", text)
    text = _LIST.sub(_list, text)
    text = _TIMES.sub(lambda match: f"{number(match[1])} times", text)
    text = _MIXED_FRACTION.sub(_fraction, text)
    text = _ranges(text)
    return text


def leftover_numbers(text: str) -> str:
    """Return the text with what no other rule has read in words: years, cardinals, decimals, lone superscripts."""
    text = _DECIMAL_LIST.sub(_plain_number, text)
    return re.sub(f"[{SUPERSCRIPTS}]+", lambda match: " " + _signed(match.group().translate(DIGITS_ABOVE)) + " ", text)


def _list(match: re.Match[str]) -> str:
    """Return numbers with commas that are not one number as several: 1,2,3 and 3,50."""
    return match.group() if re.fullmatch(NUMBER, match.group()) else match.group().replace(",", ", ")


def _decade(match: re.Match[str]) -> str:
    """Return 1990s as nineteen nineties and 747s as seven hundred and forty sevens; 90s in "took 90s" are seconds."""
    written, before = match[2], match.string[: match.start()]
    if match[1] is None and len(written) < 4 and _SECONDS.search(before) and not _HIS_TWENTIES.search(before):
        return f"{number(written)} seconds"
    return plural(year(written) if len(written) == 4 else number(written))


def _signed(written: str) -> str:
    sign = {"-": "minus ", "+": "plus "}.get(written[0], "")
    rest = written.lstrip("+-")
    return sign + (number(rest) if rest.isdecimal() else rest)


def _power(match: re.Match[str]) -> str:
    exponent = match[2].translate(DIGITS_ABOVE).strip("^()")
    base = number(match[1]) if match[1][0].isdigit() else match[1]
    after = " " if match.string[match.end() :][:1].isalnum() else ""
    if exponent in ("2", "3"):
        return f"{base} {'squared' if exponent == '2' else 'cubed'}{after}"
    if not re.fullmatch(r"[-+]?(?:\d+|[A-Za-z])", exponent):
        return f"{base} to the power of {exponent}{after}"
    return f"{base} to the power of {_signed(exponent)}{after}"


def _fraction(match: re.Match[str]) -> str:
    if (said := _SAID_SLASH.get(match.group())) is not None:
        return said
    if match[1] is None and match[2] == match[3]:
        return f"{number(match[2])} out of {number(match[3])}"
    if match[1] is not None:
        return amount(match.group())[0]
    return fraction(match[2], match[3])


def _ranges(text: str) -> str:
    """Return the text with "to" for the dash between two numbers, and a pause where there are more of them."""
    chain = re.compile(rf"(?<![\w.,-]){NUMBER}(?:-{NUMBER}){{2,}}(?![\w-])")
    text = chain.sub(lambda match: match.group().replace("-", ", "), text)
    subtraction = re.compile(rf"(?<=\d)\s?[-–]\s?(?={NUMBER}\s?=)|(?<=\d) - (?=\d)")
    text = subtraction.sub(lambda match: " minus " if "=" in text or " " not in match.group() else " to ", text)
    return _RANGE.sub(lambda match: f"{match[1]} to ", text)


def _plain_number(match: re.Match[str]) -> str:
    """Return a number in words, with a space where it touches a letter."""
    written, before, after = match.group(), match.string[: match.start()], match.string[match.end() :]
    said = year(written) if _is_year(written, before, after) else number(written)
    left = " " if before[-1:].isalnum() or before[-1:] == "_" else ""
    return f"{left}{said}{' ' if after[:1].isalnum() else ''}"


def _is_year(written: str, before: str, after: str) -> bool:
    if not (len(written) == 4 and written.isdecimal() and "1000" <= written < "2100"):
        return bool(len(written) == 4 and written.isdecimal() and _AN_ERA.match(after))
    if _COUNTED.match(after) or re.match(r"[.,]\d|-[a-z]", after):
        return False
    return written >= "1500" or bool(_YEAR_SIGNS.search(before) or _AN_ERA.match(after))
