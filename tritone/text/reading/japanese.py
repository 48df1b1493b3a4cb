"""Japanese text with everything that is written in digits and signs in words; no package is needed.

Numbers become Chinese numerals and keep their counters (3匹 -> 三匹), because how the two sound together is for
the reader to know. No digit is left at the end, so that one odd form never keeps the others from being read.
"""

from __future__ import annotations

import re

from tritone.text.reading import han_rules
from tritone.text.reading.han_roman import ROMAN, roman
from tritone.text.reading.han_rules import NUMBER, Rule
from tritone.text.reading.ja.codes import code_rules
from tritone.text.reading.ja.numbers import cardinal, minutes, number, one_by_one
from tritone.text.reading.ja.units import ALWAYS, CURRENCIES, PER, SIGNS, SPEEDS, UNITS, UNSURE
from tritone.text.reading.plain import DIGITS_ABOVE

_LETTERS = "\u3005-\u3007\u3041-\u30fa\u30fc-\u30fe\u3400-\u4dbf\u4e00-\u9fff"
_DASH = "[-~～–—〜]"
_MONEY = "|".join(re.escape(name) for name in sorted(CURRENCIES, key=len, reverse=True))
_UNIT = "|".join(re.escape(name) for name in sorted(UNITS, key=len, reverse=True))
_SURE = "|".join(re.escape(name) for name in sorted(UNITS, key=len, reverse=True) if name not in UNSURE)
_PER = "|".join(re.escape(name) for name in sorted(PER, key=len, reverse=True))
_SCALE = "((?:百|千|十)?[万億兆]|百|千)?"
_SCALES = {"K": "千", "k": "千", "M": "ミリオン", "million": "ミリオン", "B": "ビリオン", "billion": "ビリオン"}
_BETWEEN = re.compile(r"\s*([-+×÷*/xX=≠≈≒<>≥≤≧≦])\s*")


def in_words(text: str) -> str:
    """Return Japanese text in words: numbers, dates, units and signs of every form; other text stays.

    Raises InvalidRequest for a currency sign that has no name here.
    """
    return han_rules.in_words(text, _RULES, "Japanese")


def _falling_date(match: re.Match[str]) -> str:
    """Return a month and a day, if the two are no proper fraction; otherwise what was written."""
    month, day = int(match[1]), int(match[2])
    return f"{cardinal(match[1])}月{cardinal(match[2])}日" if 12 >= month > day > 0 else match[0]


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = int(match[1]), int(match[2]), match[3], (match[4] or "").strip().lower()[:1]
    if hour > 29:
        return match[0]
    words = {"a": "午前", "p": "午後", "": ""}[half] + f"{cardinal(str(hour))}時"
    words += minutes(match[2]) if minute or second else ""
    return words + (f"{cardinal(second)}秒" if second else "")


def _versus(match: re.Match[str]) -> str:
    return "たい".join(number(part.strip()) for part in re.split("[:∶-]", match[0]))


def _falling(match: re.Match[str]) -> str:
    """Return a score, because nothing goes from the larger number to the smaller; otherwise what was written."""
    return f"{number(match[1])}たい{number(match[2])}" if int(match[1]) > int(match[2]) else match[0]


def _sum(match: re.Match[str]) -> str:
    return _BETWEEN.sub(lambda m: SIGNS[m[1]] if m.start() else m[0], match[0])


def _money(match: re.Match[str]) -> str:
    sign, currency, inner, amount, scale, to, last, last_scale, name = match.groups()
    words = f"{'マイナス' * bool(sign or inner)}{number(amount)}{scale or ''}"
    return words + (f"から{number(last)}{last_scale or ''}" if to else "") + (name or CURRENCIES[currency])


def _rate(match: re.Match[str]) -> str:
    amount, to, last, unit, per = match.groups()
    words = f"{number(amount)}{f'から{number(last)}' if to else ''}{UNITS[unit]}"
    if per in SPEEDS and unit.rstrip("²³").endswith("m"):
        return SPEEDS[per] + words
    return f"{words}毎{PER[per]}"


def _power(match: re.Match[str]) -> str:
    sign, digits = match[1], match[2].translate(DIGITS_ABOVE)
    return f"の{'マイナス' * (sign in ('⁻', '-'))}{'n' if digits == 'n' else cardinal(digits)}乗"


_RULES: list[Rule] = [
    (re.compile(rf"(?<=\d) +(?=[{_LETTERS}])|(?<=[{_LETTERS}]) +(?=\d)"), lambda m: ""),
    (re.compile(r"[(（]([株有])[)）]"), lambda m: {"株": "株式会社", "有": "有限会社"}[m[1]]),
    *code_rules(),
    # Scores and sums.
    (re.compile(rf"(?<![\d.]){NUMBER}[:∶-]{NUMBER}(?![\d.:-])(?=で(?:勝|負|敗|引き分け|勝利|逆転))"), _versus),
    (
        re.compile(rf"(?<![\d.A-Za-z-])-?{NUMBER}(?:\s*[+×÷*/xX-]\s*{NUMBER}){{0,12}}\s*[=≠≈≒]\s*-?{NUMBER}(?![\d.])"),
        _sum,
    ),
    (re.compile(r"(?<=[\d²³)])\s*([+×÷*xX<>≥≤≧≦])\s*(?=[-(√\d])"), lambda m: SIGNS[m[1]]),
    (
        re.compile(
            r"(?<=[A-Za-z²³)])\s*([+×÷*=<>≥≤≧≦])\s*(?=[-(√\dA-Za-z])|(?<=[\d²³)])\s*([+×÷*=<>≥≤≧≦])\s*(?=[A-Za-z])"
        ),
        lambda m: SIGNS[m[1] or m[2]],
    ),
    (re.compile(r"([<>≥≤≧≦])\s*(?=-?\d)"), lambda m: SIGNS[m[1]]),
    # From one quantity to another.
    (
        re.compile(rf"(?<=[\d%‰℃°円万億千百歳年月日時分人個])\s?{_DASH}\s?(?=-?(?:[A-Z]{{0,2}}[$¥￥€£₹])?\d)"),
        lambda m: "から",
    ),
    (
        re.compile(
            rf"(?<=\d)(mm|cm|km|m|kg|g|mg|ml|mL|L|Hz|kHz|MHz|GHz|km/h|m/s|h|s|min|kW|W|V|MB|GB|TB){_DASH}(?=\d)"
        ),
        lambda m: f"{m[1]}から",
    ),
    (re.compile(r"(?<![\d.A-Za-z:/-])(\d{1,2})から(\d{1,2})(?=[^\w.:/%°℃-]|で|$)"), _falling),
    # Times.
    (re.compile(r"(?<![A-Za-z])([AaPp][Mm])\s?(\d{1,2}:[0-5]\d)(?![\d:])"), lambda m: f"{m[2]} {m[1]}"),
    (
        re.compile(r"(?<![\d:.])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?![\d:])(?!\.\d)(\s?[AaPp]\.?[Mm]\.?(?![A-Za-z]))?"),
        _time,
    ),
    (re.compile(rf"(?<![\d:.]){NUMBER}(?:[:∶]{NUMBER})+(?![\d:])"), _versus),
    (re.compile(r"(?<![\d.])(\d{1,2})時(\d{1,2})分(?!の\d)"), lambda m: f"{cardinal(m[1])}時{minutes(m[2])}"),
    (re.compile(r"(?<![\d.])(\d{1,2})月(\d{1,2})日"), lambda m: f"{cardinal(m[1])}月{cardinal(m[2])}日"),
    (re.compile(r"(?<=分)0(\d)(?=秒)"), lambda m: cardinal(m[1])),
    # Signs of numbers.
    (re.compile(rf"(?<![A-Za-z\d年月日時分秒円章$¥￥€£₹])-(?={NUMBER})"), lambda m: "マイナス"),
    # Money.
    (
        re.compile(rf"(?<![A-Za-z])({_MONEY})\s?({NUMBER})\s?([KkMB]|million|billion)(?![A-Za-z²³])"),
        lambda m: f"{number(m[2])}{_SCALES[m[3]]}{CURRENCIES[m[1]]}",
    ),
    (
        re.compile(
            rf"(?<![A-Za-z])(-?)({_MONEY})\s?(-?)({NUMBER}){_SCALE}(?:(から)(?:{_MONEY})?({NUMBER}){_SCALE})?(円|ドル|ユーロ|ポンド|元)?"
        ),
        _money,
    ),
    (
        re.compile(rf"({NUMBER}){_SCALE}\s?({_MONEY})(?![A-Za-z])"),
        lambda m: f"{number(m[1])}{m[2] or ''}{CURRENCIES[m[3]]}",
    ),
    (
        re.compile(rf"({NUMBER}){_SCALE}円/(個|人|月|年|日|本|枚|台|回|時間|kg|g)"),
        lambda m: (
            f"一{ {'月': 'か月', 'kg': 'キログラム', 'g': 'グラム'}.get(m[3], m[3]) }あたり{number(m[1])}{m[2] or ''}円"
        ),
    ),
    # Percent, fractions, powers and units.
    (re.compile(rf"({NUMBER})\s?(?:℉|°F)"), lambda m: f"華氏{number(m[1])}度"),
    (re.compile(r"(?<![\d./])(\d{1,2})/(\d{1,2})(?![\d./])"), _falling_date),
    (re.compile(rf"({NUMBER})(?=から-?{NUMBER}%)"), lambda m: number(m[1])),
    (
        re.compile(r"(?<![\d./])(\d+) (\d+)/(\d+)(?![\d/])"),
        lambda m: f"{cardinal(m[1])}と{cardinal(m[3])}分の{cardinal(m[2])}",
    ),
    (re.compile(r"(?<![\d./])(\d+)/(\d+)(?![\d/])(?!\.\d)"), lambda m: f"{cardinal(m[2])}分の{cardinal(m[1])}"),
    (re.compile(r"(?<=\d)/(?=\d)"), lambda m: "、"),
    (re.compile(r"(?<=[\d)A-Za-z])\^(-?)(\d+)"), _power),
    (re.compile(rf"(?<![A-Za-z])({NUMBER})(?:(から)({NUMBER}))?\s?({_UNIT})\s?/\s?({_PER})(?![A-Za-z²³])"), _rate),
    (
        re.compile(rf"(?<![A-Za-z])({NUMBER}){_SCALE}\s?({_SURE})(?![A-Za-z²³])"),
        lambda m: f"{number(m[1])}{m[2] or ''}{UNITS[m[3]]}",
    ),
    (
        re.compile(rf"(?<![A-Za-z])({NUMBER}){_SCALE}([tlLmhsgVW])(?![A-Za-z²³])"),
        lambda m: f"{number(m[1])}{m[2] or ''}{UNITS[m[3]]}",
    ),
    (re.compile(r"(?<=[\d)A-Za-z])([⁺⁻]?)([⁰¹²³⁴⁵⁶⁷⁸⁹]+|ⁿ)"), _power),
    # Order.
    (
        re.compile(r"(?<![A-Za-z])(?:No\.?|NO\.?|no\.|№|[#＃])\s?(\d+)(?![\d.]*\d)"),
        lambda m: f"ナンバー{number(m[1]) if len(m[1]) < 4 else one_by_one(m[1])}",
    ),
    (
        re.compile(rf"(?<=第)({ROMAN})(?![A-Za-z])|(?<![A-Za-z])({ROMAN})(?=世|章|節|巻|部|編|期|型|級|類|号|度|条)"),
        lambda m: roman(m[0]),
    ),
    (
        re.compile(r"(?<![A-Za-z\d])(VI{1,3}|I[IV]I?|X[IVX]+)(?![A-Za-z\d.+-])"),
        lambda m: roman(m[1]) if m[1] not in ("XX", "XXX") else m[0],
    ),
    # Whatever is left.
    (re.compile(rf"(?<![A-Za-z\d])\+(?={NUMBER})"), lambda m: "プラス"),
    (re.compile(rf"(?<!\d)[~～〜](?={NUMBER})"), lambda m: "約"),
    (re.compile(r"(?<=[A-Za-z])-(?=\d)"), lambda m: ""),
    (re.compile(rf"{NUMBER}|(?<![\dA-Za-z])\.\d+"), lambda m: number(m[0])),
    (re.compile(r"\d+"), lambda m: one_by_one(m[0])),
    (re.compile(rf"(?<=[年月日時分秒]){_DASH}(?=[〇零一二三四五六七八九十上下翌])"), lambda m: "から"),
    (re.compile("|".join(map(re.escape, ALWAYS))), lambda m: ALWAYS[m[0]]),
    (re.compile("|".join(re.escape(sign) for sign in CURRENCIES if not sign.isalpha())), lambda m: CURRENCIES[m[0]]),
    (re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+"), lambda m: number(m[0].translate(DIGITS_ABOVE))),
]
