"""Mandarin text to phones: words by jieba, readings by pypinyin, tones with the sandhi of connected speech.

A syllable is an initial and a final; a vowel without an initial gets one of its own (AA a, EE en, OO ou).
Tones are 1 to 4, 5 for the neutral tone and 0 for punctuation.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.packages import need
from tritone.families.bert_vits2.text.punctuation import MARKS, known_marks, one_line
from tritone.families.bert_vits2.text.symbols import PHONES, PUNCTUATION, Cleaned, padded
from tritone.families.bert_vits2.text.tone_sandhi import Word, spoken_tones
from tritone.text.spoken_form import has_chinese, spoken_form

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff"
_OTHER = re.compile(f"[^{HAN}{MARKS}]")
_DIGITS = re.compile(r"-?\d+(?:\.\d+)?%?")
_CLAUSE = re.compile(f"([{MARKS}])")
_SYLLABLE = re.compile(r"([a-zê]+)([1-5])")
_INITIAL = re.compile(r"zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw]")
_ALONE = {"n": "en", "ng": "en", "m": "en", "hm": "heng", "hng": "heng", "ê": "ei"}
"""Interjections without a vowel, as the nearest syllable that has symbols."""
_DEFAULT_TONES = {"一": 1, "不": 4}
_PARTICLES = {("地", "uv"): ("de", 5), ("得", "ud"): ("de", 5), ("着", "uz"): ("zhe", 5), ("了", "ul"): ("le", 5)}


def normalize(text: str) -> str:
    """Return the text in Chinese characters and known punctuation.

    Numbers, dates and units are written in words; everything else is dropped.
    """
    if has_chinese(text):
        text = spoken_form(one_line(text))
    if any(character.isdecimal() for character in text):
        text = _DIGITS.sub(lambda match: _number(match.group()), text)
    return _OTHER.sub("", known_marks(text))


def clean(text: str) -> Cleaned:
    """Return the phones of the text, one unit per character.

    Raises InvalidRequest when nothing in the text is Chinese, or a character has no known reading.
    """
    spoken = normalize(text)
    units: list[tuple[tuple[str, ...], tuple[int, ...]]] = []
    for clause in _CLAUSE.split(spoken):
        if clause in PUNCTUATION:
            units.append(((clause,), (0,)))
        elif clause:
            units.extend((phones, (tone,) * len(phones)) for phones, tone in _clause(clause))
    return padded(spoken or text, "ZH", units)


def syllable_phones(syllable: str) -> tuple[str, ...]:
    """Return initial and final of a pinyin syllable without tone (v for ü): zhi -> zh ir, yan -> y En, er -> EE er.

    Raises KeyError for anything but a syllable of Mandarin.
    """
    syllable = _ALONE.get(syllable, syllable)
    match = _INITIAL.match(syllable)
    initial, final = (match[0], syllable[match.end() :]) if match else (syllable[0].upper() * 2, syllable)
    if final == "i" and initial in ("z", "c", "s"):
        final = "i0"
    elif final == "i" and initial in ("zh", "ch", "sh", "r"):
        final = "ir"
    elif initial in ("j", "q", "x", "y") and final.startswith("u"):
        final = "v" + final[1:]
    elif initial == "y":
        final = {"e": "E", "an": "En"}.get(final, final)
    final = {"ue": "ve"}.get(final, final)
    if not {initial, final} <= PHONES["ZH"]:
        raise KeyError(syllable)
    return initial, final


def _clause(clause: str) -> list[tuple[tuple[str, ...], int]]:
    """Return phones and tone of each character of a text without punctuation."""
    words: list[Word] = []
    syllables: list[str] = []
    for token in _jieba().cut(clause):
        readings = _readings(token.word, token.flag)
        syllables.extend(syllable for syllable, _ in readings)
        words.append(Word(token.word, token.flag, [tone for _, tone in readings]))
    tones = [tone for word in spoken_tones(words) for tone in word]
    return [(syllable_phones(syllable), tone) for syllable, tone in zip(syllables, tones, strict=True)]


def _readings(word: str, flag: str) -> list[tuple[str, int]]:
    """Return syllable and dictionary tone of each character of a word."""
    if (word, flag) in _PARTICLES:
        return [_PARTICLES[word, flag]]
    pypinyin = need("pypinyin")
    readings = pypinyin.lazy_pinyin(
        word, style=pypinyin.Style.TONE3, neutral_tone_with_five=True, errors=lambda characters: list(characters)
    )
    result = []
    for character, reading in zip(word, readings, strict=True):
        match = _SYLLABLE.fullmatch(reading)
        if match is None:
            raise InvalidRequest("target_text", f"has {character!r} in {word!r}, whose reading is unknown; replace it")
        # pypinyin applies the sandhi of these two in some words only; `tone_sandhi` applies it in all of them.
        result.append((match[1], _DEFAULT_TONES.get(character, int(match[2]))))
    return result


def _number(digits: str) -> str:
    """Return a number in Chinese words; digit by digit if it is too long to have a name."""
    number = digits.rstrip("%")
    try:
        words = str(need("cn2an").an2cn(number))
    except ValueError:
        words = "".join("点" if c == "." else "零一二三四五六七八九"[int(c)] for c in number if c != "-")
    return "百分之" * (number != digits) + words


@lru_cache(maxsize=1)
def _jieba() -> Any:
    need("jieba").setLogLevel(logging.WARNING)  # it logs the loading of its dictionary
    return need("jieba.posseg")
