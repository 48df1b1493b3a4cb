"""Japanese text to phones: readings and pitch accent by Open JTalk, one tone per mora.

Tone 1 is the high part of an accent phrase; 0 is the low part, and punctuation. A long vowel is written twice
(とうきょう: t o o ky o o), q is the small っ, and vowels are never devoiced.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from tritone.families.bert_vits2.text.packages import need
from tritone.families.bert_vits2.text.punctuation import MARKS, known_marks, refuse_unsaid
from tritone.families.bert_vits2.text.symbols import PUNCTUATION, Cleaned, padded, spread
from tritone.text.reading.japanese import in_words
from tritone.text.reading.plain import plain_text

KANA = "\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30fe"
_READ = f"{KANA}\u3005\u3006\u3007\u3400-\u4dbf\u4e00-\u9fffA-Za-z"
_OTHER = re.compile(f"[^{_READ}{MARKS}]")
_ACCENTED = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")
_CLAUSE = re.compile(f"([{MARKS}])")
_LABEL = re.compile(r"-([A-Za-z]+)\+.*?/A:(-?\d+|xx)\+(\d+|xx)\+.*?/F:(\d+|xx)_")
_MORA_ENDS = frozenset(("a", "i", "u", "e", "o", "N", "q"))
_PHONES = {"cl": ("q",), "v": ("b",), "kw": ("k", "w"), "gw": ("g", "w")}
"""Phones of Open JTalk whose names are not symbols."""


def normalize(text: str) -> str:
    """Return the text in kana, Chinese characters, Latin letters and known punctuation, numbers in words."""
    return _OTHER.sub("", known_marks(_plain_words(text)))


def clean(text: str) -> Cleaned:
    """Return the phones of the text, one unit per character; a word's phones are spread over its characters.

    Latin letters are read as Open JTalk reads them: known words as words, others by their letters.

    Raises InvalidRequest when Open JTalk finds nothing to read in it, or for words in letters of other scripts.
    """
    words = _plain_words(text)
    spoken = _OTHER.sub("", known_marks(words))
    units: list[tuple[tuple[str, ...], tuple[int, ...]]] = []
    for clause in _CLAUSE.split(spoken):
        if clause in PUNCTUATION:
            units.append(((clause,), (0,)))
        elif clause:
            units.extend(_clause(clause))
    cleaned = padded(spoken or text, "JP", units)
    refuse_unsaid(words, _READ, "JP")
    return cleaned


def phrases_of(text: str) -> list[str]:
    """Return the phrases of a text, each with the particles and endings that follow it; joined, they are the text."""
    words = need("pyopenjtalk").run_frontend(text)
    strings = [unicodedata.normalize("NFKC", str(word["string"])) for word in words]
    if "".join(strings) != text:
        return re.findall(r"[^\u3041-\u309f]*[\u3041-\u309f]*", text)
    phrases: list[str] = []
    for string, word in zip(strings, words, strict=True):
        follows = word["pos"] in ("助詞", "助動詞", "記号") or word["pos_group1"] in ("接尾", "非自立")
        if phrases and follows:
            phrases[-1] += string
        else:
            phrases.append(string)
    return phrases


def _plain_words(text: str) -> str:
    """Return the text in plain characters, without accents on Latin letters, with its numbers in words."""
    return in_words(_ACCENTED.sub(lambda match: unicodedata.normalize("NFD", match[0])[0], plain_text(text)))


def _clause(clause: str) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return phones and tones of each character of a text without punctuation."""
    # At the beginning of a clause, a lengthening mark has no vowel to lengthen.
    spoken = clause.lstrip("ー")
    silent: list[tuple[tuple[str, ...], tuple[int, ...]]] = [((), ())] * (len(clause) - len(spoken))
    if not spoken:
        return silent
    openjtalk = need("pyopenjtalk")
    words = openjtalk.run_frontend(spoken)
    moras = _moras(openjtalk.make_label(words)) if words else []
    for length, count in _words(words, spoken, len(moras)):
        phones = [(phone, tone) for mora, tone in moras[:count] for phone in mora]
        del moras[:count]
        for share in spread(len(phones), length):
            silent.append((tuple(p for p, _ in phones[:share]), tuple(t for _, t in phones[:share])))
            del phones[:share]
    return silent


def _words(words: list[dict[str, Any]], text: str, moras: int) -> list[tuple[int, int]]:
    """Return the numbers of characters and moras of each word.

    Where Open JTalk rewrote the text, all of it is one word.
    """
    strings = [unicodedata.normalize("NFKC", str(word["string"])) for word in words]
    counts = [int(word["mora_size"]) for word in words]
    if sum(map(len, strings)) != len(text) or sum(counts) != moras:
        return [(len(text), moras)]
    return [(len(string), count) for string, count in zip(strings, counts, strict=True)]


def _moras(labels: list[str]) -> list[tuple[list[str], int]]:
    """Return phones and tone of each mora, from full-context labels."""
    moras: list[tuple[list[str], int]] = []
    phones: list[str] = []
    for label in labels:
        match = _LABEL.search(label)
        if match is None or match[2] == "xx":
            continue  # silence and pauses
        name = match[1] if match[1] == "N" else match[1].lower()
        phones.extend(_PHONES.get(name, (name,)))
        if phones[-1] in _MORA_ENDS:
            moras.append((phones, _tone(position=int(match[3]), from_accent=int(match[2]), moras=int(match[4]))))
            phones = []
    return moras


def _tone(position: int, from_accent: int, moras: int) -> int:
    """Return 1 where the pitch is high: it rises after the first mora and falls after the accented one.

    Args:
        position: position of the mora in its accent phrase, from 1.
        from_accent: `position` minus the position of the accented mora.
    """
    accent = position - from_accent
    if position == 1:
        return int(accent == 1 and moras > 1)
    return int(position <= accent)
