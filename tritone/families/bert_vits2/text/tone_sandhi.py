"""Tones of Mandarin in connected speech: 一 and 不, the neutral tone, and third tones in a row.

The rules are those of any textbook; each one has examples in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from tritone.families.bert_vits2.text.packages import need

_DIGITS = frozenset("〇零一二三四五六七八九点")
_NUMERALS = _DIGITS | frozenset("十百千万亿第初幺")
_PARTICLES = frozenset("吗吧呢啊啦呀嘛哇呗喽啰哟嘞的")
_MEASURED = frozenset("一二三四五六七八九十百千万亿两几半多好这那哪每各整")
_DIRECTIONS = frozenset("上下进出回过起开")
_NEUTRAL = frozenset(Path(__file__).with_name("neutral_tone.txt").read_text(encoding="utf-8").split())
"""Words whose last syllable is neutral for no reason but usage."""
_FULL_FINALS = frozenset("以之向至致")


@dataclass(frozen=True)
class Word:
    """A word, its part of speech in jieba's letters, and the dictionary tone of each character."""

    text: str
    flag: str
    tones: list[int]


def spoken_tones(words: list[Word]) -> list[list[int]]:
    """Return the tones of each word as they are spoken in a phrase made of these words and no punctuation."""
    text = "".join(word.text for word in words)
    flat = [tone for word in words for tone in word.tones]
    tones: list[list[int]] = []
    start = 0
    for word in words:
        tones.append(
            [_yi_bu(text, flat, start, start + len(word.text), i) for i in range(start, start + len(word.text))]
        )
        start += len(word.text)
    for index, word in enumerate(words):
        _third_within(word.text, tones[index])
        _neutralize(words, index, tones[index])
    _third_between(tones)
    return tones


def _yi_bu(text: str, tones: list[int], start: int, end: int, index: int) -> int:
    """Return the tone of 一 and 不 at a position, of any other character its own; the word is text[start:end]."""
    character = text[index]
    before = text[index - 1] if index else ""
    after = text[index + 1] if index + 1 < len(text) else ""
    if character not in ("一", "不"):
        return tones[index]
    if before and before == after:
        return 5  # 看一看, 去不去
    following = tones[index + 1] if after else 0
    if character == "不":
        if end - start == 3 and index == start + 1:
            return 5  # 看不懂, 来不及
        return 2 if following == 4 else 4
    if before and before in "统唯专单逐之归":
        return 1
    ordinal = after == "月" or (before == "月" and after in ("日", "号"))
    word_final = end - start > 1 and index == end - 1
    if not after or before in _NUMERALS or after in _DIGITS or ordinal or word_final:
        return 1
    return 2 if following == 4 or after == "个" else 4


def _neutralize(words: list[Word], index: int, tones: list[int]) -> None:
    """Sets the neutral tones of a word, in place."""
    text, flag = words[index].text, words[index].flag
    previous = words[index - 1] if index else None
    last = text[-1]
    if len(text) == 1:
        counted = last == "个" and previous is not None and previous.text[-1] in _MEASURED
        localizer = last in "上里" and flag == "f" and previous is not None and previous.flag[0] in "nrs"
        if last in _PARTICLES or flag in ("ul", "uz", "ug", "ud", "uv", "k") or counted or localizer:
            tones[-1] = 5
        return
    doubled = len(text) == 2 and text[0] == text[1] and flag[0] in "nv"
    localizer = last in "上里" and flag in ("s", "f", "n") and len(text) == 2 and text[0] not in _FULL_FINALS
    direction = last in "来去" and flag == "v" and text[-2] in _DIRECTIONS
    counted = last == "个" and text[-2] in _MEASURED
    if text[-2:] in _NEUTRAL or doubled or localizer or direction or counted or last in "们吗吧呢的":
        tones[-1] = 5
    starts = [0, *_parts(text)]
    for start, end in pairwise([*starts, len(text)]):
        if text[start:end] in _NEUTRAL:
            tones[end - 1] = 5  # 早上|好
    if len(text) == 3 and flag[0] == "v" and text[0] == text[1] and last == "看":
        tones[1] = 5  # 试试看
    if len(text) == 3 and text[1] == "得":
        tones[1] = 5  # 跑得快


def _third_within(text: str, tones: list[int]) -> None:
    """Third tones in a row inside a word, in place: first in its parts, then where parts meet.

    Words that double a syllable and are neutral afterwards (姐姐, 奶奶) keep the third tone; verbs (想想) do not.
    """
    if text in _NEUTRAL:
        return
    cuts = [0, *_parts(text), len(text)]
    for start, end in pairwise(cuts):
        for i in range(start, end - 1):
            if tones[i] == tones[i + 1] == 3:
                tones[i] = 2
    for i in cuts[1:-1]:
        if tones[i - 1] == tones[i] == 3:
            tones[i - 1] = 2


def _third_between(tones: list[list[int]]) -> None:
    """A third tone before a third tone of the next word, where the two make one foot of at most three syllables."""
    for left, right in pairwise(tones):
        if left[-1] == right[0] == 3 and len(left) + len(right) <= 3:
            left[-1] = 2


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[int, ...]:
    """Where a word of three or more characters is cut into the words it is made of (纸|老虎, 展览|馆)."""
    if len(text) < 3:
        return ()
    if len(text) > 3:
        return tuple(range(2, len(text), 2))
    known = need("jieba").dt.FREQ
    return (1,) if known.get(text[1:], 0) > known.get(text[:2], 0) else (2,)
