"""Digits that count nothing, in Mandarin: addresses, telephone and identity numbers, versions, models, rooms."""

from __future__ import annotations

import re

from tritone.text.reading.han_rules import ENDLESS, MACHINE, MAIL, NUMBER, SITE, VERSION, Rule
from tritone.text.reading.zh.numbers import cardinal, number, one_by_one

_SIGNS = {
    ".": "点",
    "/": "斜杠",
    "@": "艾特",
    "-": "杠",
    "_": "下划线",
    ":": "冒号",
    "?": "问号",
    "=": "等于",
    "&": "和",
}
_NAMED = (
    "号码|编号|密码|验证码|电话|手机|热线|客服|QQ|微信号?|邮编|单号|订单号?|账号|帐号|账户|卡号|尾号|房间|车牌号?|"
    "ID|id|拨打|致电|拨|工号|学号|传真|座机|航班号?|车次|代码|股票|证号|流水号|身份证|口令|邀请码|门牌号?|激活码|序列号"
)
_AFTER = "[万亿千百十]|[个人元块次位名件条只台部年月日号时点分秒天岁米吨斤克%℃度倍层]"
_EMERGENCY = "96110|110|119|120|114|122|12306|12315|12320|12333|10086|10010|11185|12345(?=热线|市民|政务)|95\\d{3}"
_HAN_MODELS = "歼|轰|运|直|东风|长征|红旗|巨浪|空警|米格|苏|图|伊尔|天舟|神舟|嫦娥|鹰击|战神"
_LETTER = "A-Za-z"

_HAN = "\u4e00-\u9fff"
_MONEY = (
    "US",
    "HK",
    "USD",
    "CNY",
    "RMB",
    "EUR",
    "GBP",
    "JPY",
    "HKD",
    "KRW",
    "TWD",
    "RM",
    "CHF",
    "AUD",
    "CAD",
    "SGD",
    "No",
    "NO",
    "no",
    "INR",
)


def code_rules() -> list[Rule]:
    """Return the rules of digits that are said one by one, and of numbers with letters."""
    return [
        (ENDLESS, lambda m: _said(m[0])),
        (
            re.compile(rf"(?<![\d.,])({NUMBER})[eE]([+-]?\d+)(?![A-Za-z\d])"),
            lambda m: f"{number(m[1])}乘以十的{'负' * m[2].startswith('-')}{cardinal(m[2].lstrip('+-'))}次方",
        ),
        (
            re.compile(r"(?:https?|ftp)://[^\s，。！？、；：（）\u4e00-\u9fff]+"),
            lambda m: _address(re.sub("^.*?://", "", m[0])),
        ),
        (MAIL, lambda m: _address(m[0])),
        (SITE, lambda m: _address(m[0]) if not re.fullmatch(r"No\.[A-Z]+", m[0]) else m[0]),
        # Addresses of machines, and versions.
        (MACHINE, lambda m: "点".join(map(one_by_one, m[0].split(".")))),
        (VERSION, lambda m: "点".join(map(number, m[0].split(".")))),
        # Cards.
        (re.compile(r"(?<![\d.])\d{4}(?:[ -]\d{4}){2,}(?:[ -]\d{1,4})?(?![\d.])"), lambda m: _said(_only(m[0]))),
        # Telephones, with a country or an area in front.
        (
            re.compile(
                r"(?<![\d+])(\+?86[- ]?)?(1[3-9]\d)([- ]?)(\d{4})\3(\d{4})(?!\d)(?!\.\d)(?!\s?(?:[元人个美万亿]|公里))"
            ),
            lambda m: _country(m[1]) + _said(m[2] + m[4] + m[5]),
        ),
        (re.compile(r"\+(\d{1,3})((?:[- ]\(?\d{2,5}\)?){2,})(?!\d)"), lambda m: "加" + _said(m[1] + _only(m[2]))),
        (
            re.compile(r"(?<!\d)(?:\+86[- ]?)?[(（](0\d{2,3})[)）][- ]?(\d{7,8}|\d{3,4}[- ]\d{4})(?!\d)"),
            lambda m: _said(m[1] + _only(m[2])),
        ),
        (
            re.compile(
                r"(?<![\d-])(0\d{2,3}[- ]\d{7,8}|[48]00[- ]?\d{3}[- ]?\d{4}|0\d{2,3}[- ]\d{3,4}[- ]\d{4})"
                r"(?:[-转](\d{1,5}))?(?!\d)"
            ),
            lambda m: _said(_only(m[1])) + (f"转{_said(m[2])}" if m[2] else ""),
        ),
        (re.compile(r"(?<=转)(\d{3,5})(?!\d|[元人万])"), lambda m: _said(m[1])),
        # Numbers of papers and cards.
        (re.compile(r"(?<!\d)\d{17}[xX](?![A-Za-z\d])"), lambda m: _said(m[0][:17]) + "X"),
        (
            re.compile(r"(?<![\d.])(\d{1,4}(?:-\d{1,4}){1,4})(?=室|号?房间?|单元)"),
            lambda m: "杠".join(map(_room, m[1].split("-"))),
        ),
        (
            re.compile(r"(?<![\d.])(?![12]\d{3}-\d{1,2}-\d{1,2}(?!\d))\d+(?:-\d+){2,}(?![\d.]*\d)(?!\s*=)"),
            lambda m: _said(_only(m[0])),
        ),
        (
            re.compile(rf"((?:{_NAMED})(?:号码|号)?[是为：:\s]{{0,2}})(\d{{3,}})(?![\d.,:-])(?!{_AFTER})"),
            lambda m: m[1] + _said(m[2]),
        ),
        (re.compile(r"(?<![\d.,])(\d{3,4})(?=室|号?房|路|国道|省道|县道|号?公交)"), lambda m: _said(m[1])),
        (
            re.compile(
                rf"(?<![\d.,A-Za-z$¥￥€£₹-])({_EMERGENCY})(?![\d.,:/%-])(?=热线|电话|网站|客服|报警|急救|平台|APP|[^{_HAN}A-Za-z²³°℃+×÷=到]|$)"
            ),
            lambda m: _said(m[1]),
        ),
        (re.compile(rf"(?<=[打拨])(\d{{3,}})(?!\d|{_AFTER})"), lambda m: _said(m[1])),
        (
            re.compile(
                r"(?<![\d.,])(?!\d{1,4}0{6,}(?!\d))(\d{7,})(?![\d.,]*\d)(?!\s*[元人个次万亿千百美港日欧英韩公平吨斤米克年天件名位条只字行%])(?![+×÷=])"
            ),
            lambda m: _said(m[1]),
        ),
        (re.compile(r"(?<![\d.])(\d\d)(?=折)"), lambda m: one_by_one(m[1]) if m[1][1] != "0" else m[0]),
        (re.compile(r"(\d+)(\*{2,})(\d+)"), lambda m: _said(m[1]) + "星" * len(m[2]) + _said(m[3])),
        (re.compile(r"(?<=[A-Z]座)(\d{3,4})(?!\d)|(?<=[A-Z]·)(\d{4,5})(?!\d)"), lambda m: _said(m[0])),
        (
            re.compile(r"(?<![\d.])(911|618|315|520|1024|818|921|512)(?=事件|大促|购物节|晚会|大地震|恐怖袭击)"),
            lambda m: _said(m[1]),
        ),
        (re.compile(rf"({_HAN_MODELS})-(?=\d)"), lambda m: m[1]),
        # Letters and digits: models, trains, rooms.
        (
            re.compile(
                rf"(?<![{_LETTER}\d])(?!(?:USD|CNY|RMB|EUR|GBP|JPY|HKD|No|NO|no)\b)(?=[{_LETTER}]+\d*-|[{_LETTER}]+-)[{_LETTER}]+\d*(?:-[{_LETTER}]*\d+[{_LETTER}]*)+(?![\d.]|[{_LETTER}])"
            ),
            lambda m: re.sub("-", "", re.sub(r"\d+", lambda n: _model(n[0]), m[0])),
        ),
        (re.compile(rf"(?<![{_LETTER}])([{_LETTER}]+)(\d+)(\.\d+)?(?![\d,.:/%]*\d)"), _lettered),
        (re.compile(r"(?<=[A-Za-z])\+\+"), lambda m: "加加"),
        (
            re.compile(rf"(?<![A-Za-z])(?!(?:{'|'.join(_MONEY)}) )([A-Z]{{2,}} )(\d{{4,}})(?![\d.,]*\d)(?!{_AFTER})"),
            lambda m: m[1] + _said(m[2]),
        ),
        (re.compile(r"(?<=[A-Za-z])\.(?=\d)"), lambda m: " "),
        (re.compile(r"(?<![\d.,])(\d{3,4})([pP])(?![A-Za-z])"), lambda m: one_by_one(m[1]) + m[2].upper()),
    ]


def _lettered(match: re.Match[str]) -> str:
    letters, digits, rest = match[1], match[2], match[3] or ""
    if letters in _MONEY or (letters in ("x", "X") and match.string[: match.start()][-1:].isdecimal()):
        return match[0]
    if rest:
        return letters + number(digits + rest)
    return letters + _model(digits)


def _model(digits: str) -> str:
    return cardinal(digits) if len(digits) <= 2 and digits[0] != "0" else _said(digits)


def _room(digits: str) -> str:
    return _said(digits) if len(digits) > 2 else cardinal(digits)


def _said(digits: str) -> str:
    return one_by_one(digits, "幺")


def _only(written: str) -> str:
    return re.sub(r"\D", "", written)


def _country(written: str | None) -> str:
    return "" if written is None else "加" * written.startswith("+") + "八六"


def _address(written: str) -> str:
    ending = re.search(r"[.,:?/]*$", written)
    end = len(written) if ending is None else ending.start()
    spoken = "".join(_SIGNS.get(c, c) for c in written[:end])
    return re.sub(r"\d+", lambda m: _said(m[0]), spoken) + written[end:].replace("/", "")
