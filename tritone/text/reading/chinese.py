"""Mandarin text with everything that is written in digits and signs in words; no package is needed.

Rules run one after the other, the most particular first: what one of them puts in words is no digit for the next. No
digit is left at the end, so that one odd form never keeps the others from being read.
"""

from __future__ import annotations

import re

from tritone.text.reading import han_rules
from tritone.text.reading.han_rules import NUMBER, Rule
from tritone.text.reading.plain import DIGITS_ABOVE
from tritone.text.reading.zh.codes import code_rules
from tritone.text.reading.zh.numbers import DIGITS, cardinal, counted, number, one_by_one
from tritone.text.reading.zh.quantities import quantity_rules
from tritone.text.reading.zh.units import ALWAYS, CURRENCIES, SIGNS

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff"
_COMPARED = "比分|比例|比值|配比|大比分|总比分|以|比率|长宽比|宽高比|屏幕|画面|比为"
_DASH = "[-~～–—〜]"
_OPERATORS = r"+\-×÷*/xX"
_SUM = re.compile(
    rf"(?<![\d.A-Za-z])-?{NUMBER}[²³]?(?:\s*[{_OPERATORS}]\s*{NUMBER}[²³]?){{0,12}}\s*[=≈≠]\s*-?{NUMBER}[²³]?(?![\d.])"
)
_OPERATION = re.compile(r"(?<=[\d²³)])\s*([-+×÷*/xX])\s*(?=[\d(])")
_AROUND = rf"[{_HAN}A-Za-z\d)(\]\[²³]"


def in_words(text: str) -> str:
    """Return Mandarin text in words: numbers, dates, units and signs of every form; other text stays.

    Raises InvalidRequest for a currency sign that has no name here.
    """
    return han_rules.in_words(text, _RULES, "Chinese")


def _date(match: re.Match[str]) -> str:
    year, month, day = match[1], int(match[3]), int(match[4])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return "杠".join(map(one_by_one, (year, match[3], match[4])))
    return f"{one_by_one(year)}年{cardinal(str(month))}月{cardinal(str(day))}日{match[5] and ' '}"


def _date_backwards(match: re.Match[str]) -> str:
    """Return a date that ends with its year, if the order of day and month is beyond doubt; else its three numbers."""
    first, second = int(match[1]), int(match[3])
    if not ((first > 12) ^ (second > 12)) or max(first, second) > 31 or not min(first, second):
        return "、".join((number(match[1]), number(match[3]), one_by_one(match[4])))
    return f"{one_by_one(match[4])}年{cardinal(str(min(first, second)))}月{cardinal(str(max(first, second)))}日"


def _month(match: re.Match[str]) -> str:
    return f"{one_by_one(match[1])}年{cardinal(match[2])}月" if 1 <= int(match[2]) <= 12 else match[0]


def _day(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])}月{cardinal(match[2])}{match[3]}"


def _days(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])}月{cardinal(match[2])}{match[3] or ''}到{cardinal(match[4])}{match[5]}"


def _years(match: re.Match[str]) -> str:
    if match[2] is None and int(match[1]) % 100 == 0 and int(match[1]) % 1000 == 0 and match[1] != "2000":
        return f"{counted(match[1], '')}年"
    return f"{one_by_one(match[1])}{f'到{one_by_one(match[2])}' if match[2] else ''}年"


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = int(match[1]), int(match[2]), match[3], (match[4] or "").lower().replace(".", "")
    if hour > 24:
        return match[0]
    words = {"am": "上午", "pm": "下午", "": ""}[half.strip()]
    words += f"{'两' if hour == 2 else cardinal(str(hour))}点"
    if minute or second:
        words += f"{'零' * (0 < minute < 10)}{cardinal(str(minute))}分"
    return words + (f"{'零' * (0 < int(second) < 10)}{cardinal(second)}秒" if second else "")


def _clock(match: re.Match[str]) -> str:
    hour = "两" if match[1] in ("2", "02") and match[2] == "点" else cardinal(match[1])
    return f"{hour}{match[2]}{_below_sixty(match[3])}{match[4] or ''}"


def _below_sixty(digits: str) -> str:
    return "零" * (len(digits) == 2 and digits[0] == "0" and digits != "00") + cardinal(digits)


def _ratio(match: re.Match[str]) -> str:
    return "比".join(number(part.strip()) for part in re.split("[:∶-]", match[0]))


def _falling(match: re.Match[str]) -> str:
    """Return a score, because nothing goes from the larger number to the smaller; otherwise what was written."""
    return _ratio(match) if int(match[1]) > int(match[2]) else match[0]


def _sum(match: re.Match[str]) -> str:
    spoken = _OPERATION.sub(
        lambda m: {"-": "减", "/": "除以", "x": "乘", "X": "乘"}.get(m[1], SIGNS.get(m[1], "")), match[0]
    )
    return re.sub(r"\s*([=≈≠])\s*", lambda m: SIGNS[m[1]], spoken)


def _compared(match: re.Match[str]) -> str:
    return SIGNS[match[1]]


_OF_ARITHMETIC = "".join(sign for sign in SIGNS if sign not in "+*√π∞±")
_RULES: list[Rule] = [
    (re.compile(rf"(?<=\d) +(?=[{_HAN}])|(?<=[{_HAN}]) +(?=\d)"), lambda m: ""),
    (
        re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:(?: \d{3}){2,}|(?: \d{3})+(?=[元人米个美]| ?km| ?kg))(?! ?\d)"),
        lambda m: m[0].replace(" ", ""),
    ),
    (
        re.compile(
            r"(?<![\d.])(\d{1,2})[.·](\d{1,2})(?=[妇儿劳国建教青植]\w节|国际|黄金周|国庆|晚会|事变|大地震|假期)"
        ),
        lambda m: cardinal(m[1]) + one_by_one(m[2]),
    ),
    (
        re.compile(r"(?<!\d)((?:19|20)\d\d)[-/](\d\d)(?=赛季|学年|财年|年度)"),
        lambda m: f"{one_by_one(m[1])}到{one_by_one(m[2])}",
    ),
    (re.compile(r"(?<![\d.])((?:1[5-9]|20)\d0)'?s(?![A-Za-z])"), lambda m: f"{one_by_one(m[1])}年代"),
    (re.compile(r"(?<=\d米)(\d\d)(?![\d.米厘个])"), lambda m: one_by_one(m[1])),
    *code_rules(),
    # Dates.
    (re.compile(r"(?<![\d.])([12]\d{3})([-/.])(\d{1,2})\2(\d{1,2})(?!\d|\2\d)(T(?=\d\d:)|)"), _date),
    (re.compile(r"(?<![\d.])(\d{1,2})([-/.])(\d{1,2})\2([12]\d{3})(?!\d|\2\d)"), _date_backwards),
    (re.compile(r"(?<![\d.])((?:19|20)\d{2})[-/](0?[1-9]|1[0-2])(?![\d./-])(?!月)"), _month),
    (re.compile(r"(?<![\d./-])(\d{1,2})月(\d{1,2})([日号])?[-~～–—至到](\d{1,2})([日号])"), _days),
    (re.compile(r"(?<![\d.])(\d{1,2})月(\d{1,2})([日号])"), _day),
    (re.compile(r"(?<![\d./-])(\d{1,2})月(?!\d)(?!份?[-~～])"), lambda m: f"{cardinal(m[1])}月"),
    (re.compile(r"(?<![\d.])([12]\d{3})\s*(?:年?\s*[-~～–—至到]\s*([12]\d{3}))?\s*年(?!级)(?!.?历史)"), _years),
    (re.compile(r"(?<![\d.])([089]\d)年(?![级代]|.?历史)"), lambda m: f"{one_by_one(m[1])}年"),
    (
        re.compile(r"(?<![\d.-])((?:19|20)\d\d)[-~～–—]((?:19|20)\d\d)(?=[^\d.%°℃$元A-Za-z年]|$)(?![个人米名位件])"),
        lambda m: f"{one_by_one(m[1])}到{one_by_one(m[2])}",
    ),
    (re.compile(r"(?<!\d)((?:1[5-9]|20)\d{2})年代"), lambda m: f"{one_by_one(m[1])}年代"),
    # Scores, sums and comparisons.
    (
        re.compile(
            rf"(?:(?<=以)|(?<=比分)|(?<=比分是)|(?<=比分为)|(?<=比例)|(?<=比例为)|(?<=比例是)){NUMBER}(?:[:∶-]{NUMBER})+(?![\d.])"
        ),
        _ratio,
    ),
    (
        re.compile(rf"(?<![\d.]){NUMBER}(?:[:∶-]{NUMBER})(?=战胜|获胜|取胜|击败|领先|战平|逆转|大胜|不敌|惜败|落后)"),
        _ratio,
    ),
    (_SUM, _sum),
    (re.compile(r"(?<![\d.A-Za-z:/-])(\d{1,2})-(\d{1,2})(?=[^\w.:/%°℃-]|$)"), _falling),
    (re.compile(rf"(?<={_AROUND})\s*([{re.escape(_OF_ARITHMETIC)}])\s*(?={_AROUND}|-|√|π)"), _compared),
    (re.compile(r"(?<=\d)\s*([xX])\s*(?=\d)"), lambda m: "乘"),
    (re.compile(r"(?<=[\dA-Za-z)])\s*\*\s*(?=[\dA-Za-z(])"), lambda m: "乘"),
    (re.compile(r"(?<=\d)\+(?=[个人名种条家位件款万亿年天次])"), lambda m: "多"),
    (re.compile(r"(?<=[\d)])\s*\+\s*(?=[\d(])"), lambda m: "加"),
    (re.compile(r"(?<=[A-Za-z)])\s*\+\s*(?=[\dA-Za-z(])"), lambda m: "加"),
    (re.compile(r"([≥≤<>≠≈])\s*(?=-?\d)"), lambda m: SIGNS[m[1]]),
    # From one quantity to another.
    (
        re.compile(rf"(?<=[\d%‰℃°元万亿千百岁年月日号时点分米克斤])\s?{_DASH}\s?(?=-?(?:[A-Z]{{0,2}}[$¥￥€£₹])?\d)"),
        lambda m: "到",
    ),
    (
        re.compile(
            rf"(?<=\d)(mm|cm|km|m|kg|g|mg|ml|mL|L|Hz|kHz|MHz|GHz|km/h|m/s|h|s|min|kW|W|V|MB|GB|TB|K|k){_DASH}(?=\d)"
        ),
        lambda m: f"{m[1]}到",
    ),
    # Times, ratios.
    (re.compile(r"(?<![A-Za-z])([AaPp][Mm])\s?(\d{1,2}:[0-5]\d)(?![\d:])"), lambda m: f"{m[2]} {m[1]}"),
    (
        re.compile(r"(?<![\d:.])(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?![\d:])(?!\.\d)(\s?[AaPp]\.?[Mm]\.?(?![A-Za-z]))?"),
        _time,
    ),
    (re.compile(rf"(?<![\d:.]){NUMBER}(?:[:∶]{NUMBER})+(?![\d:])"), _ratio),
    (re.compile(r"(?<![\d.])(\d{1,2})([时点])(\d{1,2})(分|(?=[^\d.个多%万亿]|$))"), _clock),
    (re.compile(r"(?<=分)(0\d|\d\d)(?=秒)"), lambda m: _below_sixty(m[1])),
    (re.compile(rf"(?<![A-Za-z\d年月日号时点分秒元章节$¥￥€£₹])-(?={NUMBER})"), lambda m: "负"),
    *quantity_rules(),
    # Whatever is left.
    (re.compile(rf"(?<![A-Za-z\d])\+(?={NUMBER})"), lambda m: "正"),
    (re.compile(rf"(?<!\d)[~～≈](?={NUMBER})"), lambda m: "约"),
    (re.compile(r"(?<=[A-Za-z])-(?=\d)"), lambda m: ""),
    (re.compile(rf"({NUMBER}|(?<![\dA-Za-z])\.\d+)(?=(.{{0,5}}))", re.DOTALL), lambda m: counted(m[1], m[2])),
    (re.compile(r"\d+"), lambda m: one_by_one(m[0])),
    (re.compile(rf"(?<=[年月日号时点分秒]){_DASH}(?=[{DIGITS}十上下周])"), lambda m: "到"),
    (re.compile(rf"(?<=[{DIGITS}十百千万亿])\.(?=[{DIGITS}A-Za-z])"), lambda m: "点"),
    (re.compile("|".join(map(re.escape, ALWAYS))), lambda m: ALWAYS[m[0]]),
    (re.compile(rf"(?<=[{_HAN}A-Za-z\d)+])\+"), lambda m: "加"),
    (re.compile("|".join(re.escape(sign) for sign in CURRENCIES if not sign.isalpha())), lambda m: CURRENCIES[m[0]]),
    (re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+"), lambda m: number(m[0].translate(DIGITS_ABOVE))),
]
