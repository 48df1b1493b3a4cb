"""Quantities in Mandarin: money, percent, fractions, powers, units, ordinals and Roman numerals."""

from __future__ import annotations

import re

from tritone.text.reading.han_roman import ROMAN, roman
from tritone.text.reading.han_rules import NUMBER, Rule
from tritone.text.reading.plain import DIGITS_ABOVE
from tritone.text.reading.zh.numbers import cardinal, counted, number
from tritone.text.reading.zh.units import AMBIGUOUS, CURRENCIES, PER, SCALES, UNITS

_NEGATIVE = rf"(?<![{'A-Za-z'}\d])-"
_SIGNED = rf"(-?{NUMBER})"
_SCALE = "((?:百|千|十)?[万亿]|百|千)?"
_MONEY = "|".join(re.escape(name) for name in sorted(CURRENCIES, key=len, reverse=True))
_UNIT = "|".join(re.escape(name) for name in sorted(UNITS, key=len, reverse=True))
_PER = "|".join(re.escape(name) for name in sorted(PER, key=len, reverse=True))
_BOUND = r"(?![A-Za-z²³])"
_OF_WORKS = "章|节|卷|部|册|篇|期|型|级|世|类|区|季|集|代|页|条|幕|回|阶段|号|度"
_RANGE = "到"


def quantity_rules() -> list[Rule]:
    """Return the rules of quantities."""
    return [
        # Money, with the currency in front or behind.
        (
            re.compile(
                rf"(-?)({_MONEY})\s?(-?)({NUMBER}){_SCALE}{_RANGE}(?:{_MONEY})?\s?({NUMBER}){_SCALE}(?:元|{_MONEY})?(?![\d])"
            ),
            lambda m: (
                f"{'负' * bool(m[1] or m[3])}{number(m[4])}{m[5] or ''}到{number(m[6])}{m[7] or ''}{CURRENCIES[m[2]]}"
            ),
        ),
        (
            re.compile(
                rf"(?<![A-Za-z])(-?)({_MONEY})\s?(-?)({NUMBER})(?:\s?([KkMmBT]|bn|thousand|million|billion|trillion)(?![A-Za-z²³])|{_SCALE})(美元|美金|港元|港币|日元|欧元|英镑|元|块)?"
            ),
            _money,
        ),
        (re.compile(rf"{_SIGNED}\s?{_SCALE}\s?({_MONEY})(?![A-Za-z])"), _money_behind),
        # Percent and fractions.
        (re.compile(rf"(-?)({NUMBER})\s?([%‰])?{_RANGE}(-?)({NUMBER})\s?([%‰])"), _percents),
        (re.compile(rf"(?:(?<![A-Za-z\d])(-))?({NUMBER})\s?([%‰])"), lambda m: _percent(m[1] or "", m[2], m[3])),
        (
            re.compile(r"(?<![\d./])(\d+)(?:\s?又\s?| )(\d+)/(\d+)(?![\d/])"),
            lambda m: f"{cardinal(m[1])}又{cardinal(m[3])}分之{cardinal(m[2])}",
        ),
        (re.compile(r"(?<![\d./])24/7(?![\d/])"), lambda m: "二十四七"),
        (re.compile(r"(?<![\d./])(\d+)/(\d+)(?![\d/])(?!\.\d)"), lambda m: f"{cardinal(m[2])}分之{cardinal(m[1])}"),
        (re.compile(r"(?<=\d)/(?=\d)"), lambda m: "、"),
        # Powers.
        (re.compile(r"(?<=[\d)A-Za-z])\^(-?)(\d+)"), lambda m: f"的{'负' * bool(m[1])}{cardinal(m[2])}次方"),
        *_unit_rules(),
        (re.compile(r"(?<=[\d)A-Za-z])([⁺⁻]?)([⁰¹²³⁴⁵⁶⁷⁸⁹]+|ⁿ)"), _power),
        # Order: 第3, No.5, #5, and Roman numerals.
        (re.compile(r"(?<![A-Za-z])(?:No\.?|NO\.?|no\.|№|№\.?)\s?(\d+)(?![\d.]*\d)"), lambda m: f"{_plain(m[1])}号"),
        (re.compile(r"[#＃]\s?(\d+)(?![\d.]*\d)"), lambda m: f"{_plain(m[1])}号"),
        (re.compile(r"(?<![\d.])(\d{1,4})[#＃]"), lambda m: f"{_plain(m[1])}号"),
        (re.compile(r"(第|初|周|星期|礼拜|高|大|小)(\d+)(?:(到)第?(\d+))?(?![\d.%])(?=(.?))"), _ordinal),
        (re.compile(r"(?<=第)" + ROMAN + "(?![A-Za-z])"), lambda m: roman(m[0])),
        (re.compile(rf"(?<![A-Za-z]){ROMAN}(?={_OF_WORKS})"), lambda m: roman(m[0])),
        (
            re.compile(r"(?<=[\u4e00-\u9fff])(?!X{2,})(?=[IVX]{2})(X{0,3}(?:IX|IV|V?I{0,3}))(?![A-Za-z\d.+-])"),
            lambda m: roman(m[1]),
        ),
        (
            re.compile(r"(?<![A-Za-z\d])(?=[IVX]{2,})(?!X{2,}(?![IV]))(VI{1,3}|I[IVX]I?|X[IVX]+)(?![A-Za-z\d.+-])"),
            lambda m: roman(m[1]),
        ),
        (
            re.compile(rf"({NUMBER})(?=号楼|号线|楼|号(?!码)|班|路|级|月|年[级代]|日|队|连|营|组|院)"),
            lambda m: number(m[1]),
        ),
    ]


def _unit_rules() -> list[Rule]:
    sure = "|".join(re.escape(u) for u in sorted(UNITS, key=len, reverse=True) if u not in AMBIGUOUS)
    return [
        (
            re.compile(r"(\d+)°\s?(\d+)[′'](?:\s?(\d+)[″\"])?"),
            lambda m: f"{number(m[1])}度{number(m[2])}分{number(m[3]) + '秒' if m[3] else ''}",
        ),
        (
            re.compile(rf"(?<![A-Za-z])(?:(-)|)({NUMBER})({_RANGE}-?{NUMBER})?\s?({_UNIT})\s?/\s?({_PER}){_BOUND}"),
            _rate,
        ),
        (re.compile(rf"(?<![A-Za-z])({NUMBER}){_SCALE}\s?({sure}){_BOUND}"), _measured),
        (
            re.compile(rf"(?<![A-Za-z])({NUMBER}){_SCALE}\s?([tlLmhsgVW]|cal|mi){_BOUND}"),
            _measured,
        ),
        (re.compile(rf"({NUMBER})([AKNJ])(?![A-Za-z\d-])"), lambda m: number(m[1]) + m[2]),
        (
            re.compile(r"/(?=[天月年人次个件小周日只台套位时分秒斤米吨公升])|(?<=[元币镑块])/(?=[\u4e00-\u9fff])"),
            lambda m: "每",
        ),
    ]


def _money(match: re.Match[str]) -> str:
    sign, currency, inner, amount, letter, scale, name = match.groups()
    unit = SCALES.get(letter or "", scale or "")
    return f"{'负' * bool(sign or inner)}{counted(amount, unit or '元')}{unit}{name or CURRENCIES[currency]}"


def _money_behind(match: re.Match[str]) -> str:
    amount, scale, currency = match.groups()
    sign = "负" * amount.startswith("-")
    return f"{sign}{counted(amount.lstrip('-'), scale or '元')}{scale or ''}{CURRENCIES[currency]}"


def _percent(sign: str, amount: str, mark: str) -> str:
    return f"{'负' * bool(sign)}{'百分之' if mark == '%' else '千分之'}{number(amount)}"


def _percents(match: re.Match[str]) -> str:
    return f"{_percent(match[1], match[2], match[3] or match[6])}到{_percent(match[4], match[5], match[6])}"


def _power(match: re.Match[str]) -> str:
    sign, digits = match[1], match[2].translate(DIGITS_ABOVE)
    if not sign and digits in ("2", "3"):
        return "的平方" if digits == "2" else "的立方"
    return f"的{'负' * (sign == '⁻')}{'N' if digits == 'n' else cardinal(digits)}次方"


def _rate(match: re.Match[str]) -> str:
    sign, amount, to, unit, per = match.groups()
    name = UNITS[unit]
    words = f"{'负' * bool(sign)}{counted(amount, to or name)}"
    if to:
        words += f"到{counted(to[1:], name)}"
    if per in ("h", "hr", "s", "min"):
        return f"每{PER[per]}{words}{name}"
    return f"{words}{name}每{PER[per]}"


def _measured(match: re.Match[str]) -> str:
    amount, scale, unit = match.groups()
    name = UNITS[unit]
    return f"{counted(amount, scale or name)}{scale or ''}{name}"


def _ordinal(match: re.Match[str]) -> str:
    head, first, to, last, after = match.groups()
    if head in ("高", "大", "小", "周") and (len(first) > 1 or after in tuple("个米元斤人吨公万千百倍岁天年次")):
        return match[0]
    return f"{head}{_plain(first)}{f'到{_plain(last)}' if to else ''}"


def _plain(digits: str) -> str:
    spoken = number(digits)
    return "二" + spoken[1:] if spoken.startswith("两") and len(digits) == 1 else spoken
