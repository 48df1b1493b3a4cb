"""Digits that count nothing, in Japanese: addresses, telephones, versions, models, rooms; and dates in figures."""

from __future__ import annotations

import re

from tritone.text.reading.han_rules import ENDLESS, MACHINE, MAIL, NUMBER, SITE, VERSION, Rule
from tritone.text.reading.ja.numbers import cardinal, number, one_by_one
from tritone.text.reading.ja.units import CURRENCIES

_ADDRESS = {
    ".": "ドット",
    "/": "スラッシュ",
    "@": "アットマーク",
    "-": "ハイフン",
    "_": "アンダーバー",
    ":": "コロン",
    "?": "",
    "=": "イコール",
}
_NAMED = "番号|電話|内線|暗証番号|パスワード|コード|ID|会員|口座|注文番号|型番|伝票|郵便番号|〒|TEL|Tel|FAX|号室"
_TELEPHONE = re.compile(
    r"(?<![\d.])\d{4}(?:[ -]\d{4}){2,}(?![\d.])|(?<!\d)\+\d{1,3}(?:[- ]\d{1,5}){2,}(?!\d)"
    r"|(?<![\d.])0\d{1,4}(?:[-(（]\d{1,4}){1,2}[-)）]\d{3,4}(?!\d)"
    r"|(?<![\d.-])0\d{1,3} \d{3,4} \d{4}(?![\d.])|(?<![\d.¥$-])\d{3}-\d{4}(?![\d円個人.-])"
    r"|(?<!\d)[(（]0\d{1,4}[)）]\s?\d{1,4}-\d{4}(?!\d)"
)


def code_rules() -> list[Rule]:
    """Return the rules of digits that are said one by one, of dates in figures, and of numbers with letters."""
    return [
        (ENDLESS, lambda m: one_by_one(m[0])),
        (re.compile(r"(?<=[A-Za-z])\.(?=\d)"), lambda m: " "),
        (re.compile(r"(?:https?|ftp)://[A-Za-z0-9._/?=&%:#-]+"), _address),
        (MAIL, _address),
        (SITE, _address),
        (
            re.compile(rf"(?<![\d.,])({NUMBER})[eE]([+-]?)(\d+)(?![A-Za-z\d])"),
            lambda m: f"{number(m[1])}かける十の{'マイナス' * (m[2] == '-')}{cardinal(m[3])}乗",
        ),
        (MACHINE, lambda m: "ドット".join(map(one_by_one, m[0].split(".")))),
        (VERSION, lambda m: "点".join(map(number, m[0].split(".")))),
        (_TELEPHONE, _telephone),
        (re.compile(r"(?<=〒)\s?\d{3}-\d{4}(?!\d)|(?<![\d.-])0[5789]0\d{8}(?!\d)|(?<![\d.-])0\d{9}(?!\d)"), _telephone),
        (re.compile(r"(?<![\d.-])([12]\d{3})([-/.])(\d{1,2})\2(\d{1,2})(?!\d|\2\d)(T(?=\d\d:)|)"), _date),
        (
            re.compile(r"(?<![\d./])((?:19|20)\d\d)[-/](0?[1-9]|1[0-2])(?![\d./-])"),
            lambda m: f"{cardinal(m[1])}年{cardinal(m[2])}月",
        ),
        (re.compile(r"(?<![\d./])(\d{1,2})/(\d{1,2})(?=\s?[(（][月火水木金土日][)）])"), _month_and_day),
        (re.compile(r"(?<![\d.])\d+(?:-\d+){2,}(?![\d.]*\d)(?!\s*=)"), _telephone),
        (
            re.compile(rf"((?:{_NAMED})[はが：:\s]{{0,2}})(\d{{3,}})(?![\d.,:-])(?![万億円個人年月日時分])"),
            lambda m: m[1] + one_by_one(m[2]),
        ),
        (re.compile(r"(?<![\d.,])(\d{3,4})(?=号室)"), lambda m: one_by_one(m[1])),
        (
            re.compile(
                r"(?<![\d.,])(?!\d{1,4}0{6,}(?!\d))(\d{8,})(?![\d.,]*\d)(?![円人個年月日時分回本台件名歳ドユポメキトグリ万億兆%])"
            ),
            lambda m: one_by_one(m[1]),
        ),
        # Letters and digits.
        (
            re.compile(r"(?<![A-Za-z\d])(?=[A-Za-z]+\d*-)[A-Za-z]+\d*(?:-[A-Za-z]*\d+[A-Za-z]*)+(?![\d.]|[A-Za-z])"),
            lambda m: re.sub(r"\d+", lambda n: _model(n[0]), m[0].replace("-", "")),
        ),
        (re.compile(r"(?<![A-Za-z])([A-Za-z]+)(\d+)(\.\d+)?(?![\d,.:/%]*\d)"), _lettered),
    ]


def _date(match: re.Match[str]) -> str:
    year, month, day = (int(match[index]) for index in (1, 3, 4))
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return "の".join(map(one_by_one, (match[1], match[3], match[4])))
    return f"{cardinal(str(year))}年{cardinal(str(month))}月{cardinal(str(day))}日{match[5] and ' '}"


def _month_and_day(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])}月{cardinal(match[2])}日" if 1 <= int(match[1]) <= 12 else match[0]


def _telephone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    return "プラス" * match[0].startswith("+") + "の".join(map(one_by_one, groups))


def _lettered(match: re.Match[str]) -> str:
    letters, digits, rest = match[1], match[2], match[3] or ""
    if letters in CURRENCIES or letters in ("No", "NO", "no"):
        return match[0]
    if rest:
        return letters + number(digits + rest)
    return letters + _model(digits)


def _model(digits: str) -> str:
    return cardinal(digits) if len(digits) <= 2 and digits[0] != "0" else one_by_one(digits)


def _address(match: re.Match[str]) -> str:
    written = re.sub("^[a-z]+://", "", match[0]).rstrip(".,:?/")
    return one_by_one("".join(_ADDRESS.get(character, character) for character in written))
