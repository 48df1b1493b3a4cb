"""Numbers in Mandarin words: cardinals, decimals, years, and digits one by one."""

from __future__ import annotations

import re

from tritone.text.reading.han_rules import LONGEST, number_in_words

DIGITS = "零一二三四五六七八九"
MEASURES = (
    "个(?!位数)|岁|人|天|位(?!数)|斤|吨|层|小时|分钟|秒|元|块|毛|百|千|万|亿|本|张|条|只|头|米|度|次|种|年(?![级纪]|代)|倍|"
    "点(?!零)|周|辆|台|件|套|份|杯|瓶|把|块|颗|棵|朵|座|栋|间|家|所|部|支|枝|匹|双|对|副|名|口|场|届|群|片|排|篇|段|"
    "句|桶|箱|包|袋|盒|碗|盘|公里|千米|千克|公斤|毫升|毫米|厘米|分米|升|克|吨|里|尺|寸|丈|亩|公顷|平方|立方|摄氏度|"
    "欧元|美元|英镑|日元|港元|韩元|卢比|兆|瓦|伏|赫兹|节|步|遍|趟|回|顿|架|艘|枚|股|餐|晚|夜|刻钟|代人|世纪|季度|星期|"
    "小?时(?!代)|英寸|英尺|英里|海里|磅|盎司|加仑|卷(?!第)|卡路里|帕|牛顿|焦耳|安培|欧姆|比特|字节"
)
"""What is counted with 两 and not with 二."""

_GROUPS = ("", "万", "亿", "万亿")
_PLACES = ("", "十", "百", "千")
_COUNTED = re.compile(f"(?:[到、]\\d+)?(?:{MEASURES})")


def one_by_one(digits: str, one: str = "一") -> str:
    """Return each digit in words; `one` may be 幺, as in telephone numbers. Other characters stay."""
    return "".join((one if d == "1" else DIGITS[int(d)]) if d.isdecimal() else d for d in digits)


def cardinal(digits: str) -> str:
    """Return a whole number in words, with 两 at its beginning before 百 and more: 200 -> 两百, 1200 -> 一千二百."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > LONGEST:
        return one_by_one(digits, "幺")
    if digits == "0":
        return "零"
    groups = [int(digits[max(end - 4, 0) : end]) for end in range(len(digits), 0, -4)]
    words = ""
    gap = False
    for index in reversed(range(len(groups))):
        value = groups[index]
        if not value:
            gap = bool(words)
            continue
        words += "零" * bool(words and (gap or value < 1000))
        group = _group(value)
        words += ("两" if group == "二" and index and not words else group) + _unit(index, groups)
        gap = False
    if words.startswith("一十"):
        words = words[1:]
    return re.sub("^二(?=[百千])", "两", words)


def number(written: str) -> str:
    """Return a number as it is written (1,234.50, 007, .5) in words; every digit of it is said."""
    return number_in_words(written, cardinal, one_by_one)


def counted(written: str, after: str) -> str:
    """Return a number before the words `after`: a lone 2 is 两 before what is counted (2个 -> 两个)."""
    return "两" if written == "2" and _COUNTED.match(after) else number(written)


def _group(value: int) -> str:
    """Return a number up to 9999, with all its places."""
    words = ""
    for place in (3, 2, 1, 0):
        digit = value // 10**place % 10
        if digit:
            words += DIGITS[digit] + _PLACES[place]
        elif words and value % 10**place and not words.endswith("零"):
            words += "零"
    return words


def _unit(index: int, groups: list[int]) -> str:
    """Return the name of a group of four digits; 亿 is said once where 万亿 and 亿 both have digits."""
    return "万" if index == 3 and groups[2] else _GROUPS[index]
