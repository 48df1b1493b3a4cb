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
from tritone.families.bert_vits2.text.punctuation import MARKS, known_marks, one_line, refuse_unsaid
from tritone.families.bert_vits2.text.symbols import PHONES, PUNCTUATION, Cleaned, padded
from tritone.families.bert_vits2.text.tone_sandhi import Word, spoken_tones
from tritone.text.reading.chinese import in_words
from tritone.text.reading.plain import plain_text

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff"
_OTHER = re.compile(f"[^{HAN}{MARKS}]")
_LONE_NUMBER = re.compile(r"-?[1-9]\d{0,3}(?:\.\d+)?")
_IS_HAN = re.compile(f"[{HAN}]")
_PAUSES = {" - ": "，", "——": "", **dict.fromkeys("（）【】`", "")}
"""Marks that are no pause, or another one, in Chinese text; the published front end leaves them out as well."""
_TRAILING_COMMAS = re.compile("[，,、]+$")
_CLAUSE = re.compile(f"([{MARKS}])")
_SYLLABLE = re.compile(r"([a-zê]+)([1-5])")
_INITIAL = re.compile(r"zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw]")
_ALONE = {"n": "en", "ng": "en", "m": "en", "hm": "heng", "hng": "heng", "ê": "ei"}
"""Interjections without a vowel, as the nearest syllable that has symbols."""
_DEFAULT_TONES = {"一": 1, "不": 4}
_PARTICLES = {("地", "uv"): ("de", 5), ("得", "ud"): ("de", 5), ("着", "uz"): ("zhe", 5), ("了", "ul"): ("le", 5)}


def normalize(text: str) -> str:
    """Return the text in Chinese characters and known punctuation.

    Numbers, dates and units are written in words; letters and signs without a reading are dropped.
    """
    return _OTHER.sub("", known_marks(_words(text)))


def clean(text: str) -> Cleaned:
    """Return the phones of the text, one unit per character.

    Raises InvalidRequest when nothing in the text is Chinese, a character has no known reading, or there are words in
    letters that are not Chinese.
    """
    words = _words(text)
    spoken = _OTHER.sub("", known_marks(words))
    units: list[tuple[tuple[str, ...], tuple[int, ...]]] = []
    for clause in _CLAUSE.split(spoken):
        if clause in PUNCTUATION:
            units.append(((clause,), (0,)))
        elif clause:
            units.extend((phones, (tone,) * len(phones)) for phones, tone in _clause(clause))
    cleaned = padded(spoken or text, "ZH", units)
    refuse_unsaid(words, HAN, "ZH")
    return cleaned


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order; joined, they are the text again."""
    return [token.word for token in _jieba().cut(text)]


def _words(text: str) -> str:
    """Return the text in one line, in plain characters, with its numbers in words."""
    text = one_line(plain_text(text))
    spoken = in_words(text)
    # A lone number is no Chinese text: it is read as in the published front end, with 二 in every place.
    if _LONE_NUMBER.fullmatch(text):
        return spoken.replace("两", "二")
    if not _IS_HAN.search(spoken):
        return spoken
    for mark, pause in _PAUSES.items():
        spoken = spoken.replace(mark, pause)
    return _TRAILING_COMMAS.sub("。", spoken)


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


@lru_cache(maxsize=1)
def _jieba() -> Any:
    need("jieba").setLogLevel(logging.WARNING)  # it logs the loading of its dictionary
    return need("jieba.posseg")
