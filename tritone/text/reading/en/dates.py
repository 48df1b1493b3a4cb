"""Dates in words. 11/25/2025 and 25/11/2025 differ where a part is above 12; else the month comes first, as in the US.

What only looks like a date (31/02/2020) is read number by number.
"""

from __future__ import annotations

import re

from tritone.text.reading.en.abbreviations import MONTHS
from tritone.text.reading.en.numbers import number, ordinal, year

_DAYS_IN = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH = "(" + "|".join(MONTHS) + ")"
_DAY = r"(0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_TO = r"\s?(?:-|–|—|to)\s?"
_YEAR = r"([12]\d{3})(?![\d,]\d|\w)"
_APART = r"(?<![\w/.-])"
_ISO = re.compile(rf"{_APART}(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}})(?![\d/-]|\.\d)(?:T(?=\d))?")
_NUMERIC = re.compile(rf"{_APART}(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}|\d\d)(?![\w/-]|\.\d)")
_MONTH_FIRST = re.compile(rf"\b{_MONTH} {_DAY}(?:{_TO}{_DAY})?(?![\w:/%]|[.,]\d|,\d{{3}})(?:,? {_YEAR})?")
_DAY_FIRST = re.compile(
    rf"(?<![\w.,/:-])(the )?{_DAY}(?:{_TO}{_DAY})?(?: of)? {_MONTH}\b(?:,? {_YEAR})?", re.IGNORECASE
)
_MONTH_AND_YEAR = re.compile(rf"\b{_MONTH},? {_YEAR}")
_YEAR_AND_MONTH = re.compile(rf"{_APART}([12]\d{{3}})-(0[1-9]|1[0-2])(?![\w/-]|\.\d)")
_MONTH_AND_DAY = re.compile(
    r"\b((?:on|by|since|until|before|after|from|due|dated|through) )(1[0-2]|0?[1-9])/(0?[1-9]|[12]\d|3[01])(?![\w/])"
)
_SLASHED = re.compile(r"(?<![\w/])\d+(?:/\d+){2,}(?![\w/])")


def dates_in_words(text: str) -> str:
    """Return the text with its dates in words."""
    text = _ISO.sub(lambda match: _date(match, match[1], match[3], match[4]), text)
    text = _NUMERIC.sub(_numeric, text)
    text = _MONTH_FIRST.sub(_month_first, text)
    text = _DAY_FIRST.sub(_day_first, text)
    text = _MONTH_AND_YEAR.sub(lambda match: f"{match[1]} {year(match[2])}", text)
    text = _YEAR_AND_MONTH.sub(_year_and_month, text)
    text = _MONTH_AND_DAY.sub(lambda match: f"{match[1]}{MONTHS[int(match[2]) - 1]} {ordinal(match[3])}", text)
    return _SLASHED.sub(lambda match: " slash ".join(map(number, match.group().split("/"))), text)


def _date(match: re.Match[str], of_year: str, month: str, day: str, day_first: bool = False) -> str:
    """Return a date in words, as it was if the calendar has no such day."""
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= _DAYS_IN[int(month) - 1]):
        return match.group()
    space = " " if match.group().endswith("T") else ""
    if len(of_year) == 2:
        of_year = ("20" if of_year < "70" else "19") + of_year
    said = year(of_year)
    name, number_of_day = MONTHS[int(month) - 1], ordinal(day)
    if not day_first:
        return f"{name} {number_of_day}, {said}{space}"
    the = "" if match.string[: match.start()].lower().endswith("the ") else "the "
    return f"{the}{number_of_day} of {name}, {said}{space}"


def _numeric(match: re.Match[str]) -> str:
    first, mark, second, of_year = match.groups()
    if mark != "/" and len(of_year) == 2:
        return match.group()  # 10-11-12 and 1.2.34 are dates too rarely
    if int(first) > 12 or mark == ".":
        return _date(match, of_year, second, first, day_first=True)
    return _date(match, of_year, first, second)


def _month_first(match: re.Match[str]) -> str:
    month, day, last, of_year = match.groups()
    said = f"{month} {ordinal(day)}" + (f" to {ordinal(last)}" if last else "")
    return f"{said}, {year(of_year)}" if of_year else said


def _day_first(match: re.Match[str]) -> str:
    article, day, last, month, of_year = match.groups()
    said = ordinal(day) + (f" to {ordinal(last)}" if last else "")
    return f"{article or 'the '}{said} of {month}" + (f", {year(of_year)}" if of_year else "")


def _year_and_month(match: re.Match[str]) -> str:
    """Return month and year; 2010-11 counts on from 10 and is a range."""
    if int(match[2]) == int(match[1][2:]) + 1:
        return match.group()
    return f"{MONTHS[int(match[2]) - 1]} {year(match[1])}"
