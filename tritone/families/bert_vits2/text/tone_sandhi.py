"""Tones of Mandarin in connected speech: 一 and 不, the neutral tone, and third tones in a row.

The rules are those of textbooks; the tests have examples of each.
"""

from __future__ import annotations

from collections.abc import Callable
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
"""Words whose last syllable is neutral by usage, not by a rule."""
_FULL_FINALS = frozenset("以之向至致")
_PARTICLE_FLAGS = ("ul", "uz", "ug", "ud", "uv", "k")
_LOCALIZERS = frozenset("上里")
_NEUTRAL_SUFFIXES = frozenset("们吗吧呢的")


@dataclass(frozen=True)
class Word:
    """A word, its part of speech in jieba's letters, and the dictionary tone of each character."""

    text: str
    flag: str
    tones: list[int]


def spoken_tones(words: list[Word]) -> list[list[int]]:
    """Return the spoken tones of each word of a phrase without punctuation."""
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
    """Return the tone of the character at `index`: the spoken tone of 一 and 不, otherwise the dictionary tone.

    The word is `text[start:end]`.
    """
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


Rule = Callable[[str, str, Word | None], bool]
"""`rule(text, flag, previous)`: whether it applies to a word, given its part of speech and the word before it."""

_NEUTRAL_SYLLABLES: tuple[Rule, ...] = (
    lambda text, flag, previous: text in _PARTICLES or flag in _PARTICLE_FLAGS,  # 吗, 着
    lambda text, flag, previous: text == "个" and previous is not None and previous.text[-1] in _MEASURED,  # 三|个
    lambda text, flag, previous: (
        text in _LOCALIZERS and flag == "f" and previous is not None and previous.flag[0] in "nrs"  # 桌子|上
    ),
)
"""Rules for words of one character that are neutral."""
_NEUTRAL_ENDS: tuple[Rule, ...] = (
    lambda text, flag, previous: text[-2:] in _NEUTRAL,  # 朋友
    lambda text, flag, previous: text[-1] in _NEUTRAL_SUFFIXES,  # 我们
    lambda text, flag, previous: len(text) == 2 and text[0] == text[1] and flag[0] in "nv",  # 看看
    lambda text, flag, previous: (
        len(text) == 2 and text[1] in _LOCALIZERS and flag in ("s", "f", "n") and text[0] not in _FULL_FINALS  # 家里
    ),
    lambda text, flag, previous: text[-1] in "来去" and flag == "v" and text[-2] in _DIRECTIONS,  # 回来
    lambda text, flag, previous: text[-1] == "个" and text[-2] in _MEASURED,  # 几个
)
"""Rules for words of several characters whose last one is neutral."""
_NEUTRAL_MIDDLES: tuple[Rule, ...] = (
    lambda text, flag, previous: flag[0] == "v" and text[0] == text[1] and text[2] == "看",  # 试试看
    lambda text, flag, previous: text[1] == "得",  # 跑得快
)
"""Rules for words of three characters whose second one is neutral."""


def _neutralize(words: list[Word], index: int, tones: list[int]) -> None:
    """Set the neutral tones of a word, in place."""
    text, flag = words[index].text, words[index].flag
    previous = words[index - 1] if index else None

    def any_of(rules: tuple[Rule, ...]) -> bool:
        return any(rule(text, flag, previous) for rule in rules)

    if any_of(_NEUTRAL_SYLLABLES if len(text) == 1 else _NEUTRAL_ENDS):
        tones[-1] = 5
    if len(text) == 3 and any_of(_NEUTRAL_MIDDLES):
        tones[1] = 5
    for start, end in pairwise([0, *_parts(text), len(text)]):
        if text[start:end] in _NEUTRAL:
            tones[end - 1] = 5  # 早上|好


def _third_within(text: str, tones: list[int]) -> None:
    """Change third tones before third tones inside a word, in place: first in its parts, then where parts meet.

    Words of a doubled syllable with a neutral end (姐姐, 奶奶) keep the third tone; verbs (想想) do not.
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
    """Change a third tone before a third tone of the next word, in place, if the two have up to three syllables."""
    for left, right in pairwise(tones):
        if left[-1] == right[0] == 3 and len(left) + len(right) <= 3:
            left[-1] = 2


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[int, ...]:
    """Return the positions at which a word of three or more characters is cut into its parts (纸|老虎, 展览|馆)."""
    if len(text) < 3:
        return ()
    if len(text) > 3:
        return tuple(range(2, len(text), 2))
    known = need("jieba").dt.FREQ
    return (1,) if known.get(text[1:], 0) > known.get(text[:2], 0) else (2,)
