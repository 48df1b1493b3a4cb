"""English text to phones: the CMU pronouncing dictionary, and gruut's letter-to-sound model for words not in it.

Phones are ARPAbet in lower case, except V, because v is a vowel of Mandarin. The tone of a vowel is its stress plus
one, of a consonant 3, of punctuation 0.
"""

from __future__ import annotations

import lzma
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from tritone.families.bert_vits2.text.packages import need
from tritone.families.bert_vits2.text.punctuation import MARKS, known_marks, one_line
from tritone.families.bert_vits2.text.symbols import PUNCTUATION, Cleaned, padded, spread
from tritone.text.reading.en.capitals import capitals_as_words
from tritone.text.reading.english import in_words
from tritone.text.reading.plain import plain_text

Phones = tuple[tuple[str, ...], tuple[int, ...]]
_DICTIONARY = Path(__file__).with_name("cmudict.txt.xz")
_OTHER = re.compile(f"[^A-Za-z0-9 {MARKS}]")
_PIECE = re.compile(f"[A-Za-z0-9]+(?:'[A-Za-z]+)*|[{MARKS}]")
_DOTTED = re.compile(r"(?<!\w)(?:[A-Za-z]\.){2,}(?=(\s+[A-Z]|\s*$)?)")
_PLAIN_LETTERS = str.maketrans(
    {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ß": "ss"}
)
_CONSONANT_TONE = 3
_ARPABET = {
    **{same: same for same in ("b", "d", "f", "k", "l", "m", "n", "p", "s", "t", "w", "z")},
    **{"d͡ʒ": "jh", "h": "hh", "j": "y", "t͡ʃ": "ch", "v": "V", "ð": "dh", "ŋ": "ng", "ɡ": "g", "ɹ": "r", "ʃ": "sh"},
    **{"ʒ": "zh", "θ": "th", "aɪ": "ay", "aʊ": "aw", "eɪ": "ey", "i": "iy", "oʊ": "ow", "u": "uw", "æ": "ae"},
    **{"ɑ": "aa", "ɔ": "ao", "ɔɪ": "oy", "ɚ": "er", "ɛ": "eh", "ɪ": "ih", "ʊ": "uh", "ʌ": "ah", "ə": "ah"},
}
_STRESS = {"ˈ": 2, "ˌ": 3}
_PLURAL = re.compile(r"([A-Za-z0-9]+)'s|([A-Z]{2,})s")
_ENDINGS: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = (
    (frozenset(("s", "z", "sh", "zh", "ch", "jh")), ("ih", "z")),
    (frozenset(("p", "t", "k", "f", "th")), ("s",)),
    (frozenset(), ("z",)),
)


def normalize(text: str) -> str:
    """Return the text in plain letters and known punctuation, numbers and dates in words, with single spaces."""
    text = in_words(one_line(plain_text(text))).translate(_PLAIN_LETTERS)
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    text = capitals_as_words(text, _dictionary().__contains__)
    text = _DOTTED.sub(lambda match: match.group().replace(".", "").upper() + "." * (match[1] is not None), text)
    return " ".join(_OTHER.sub(" ", known_marks(text)).split())


def clean(text: str, tokenize: Callable[[str], Sequence[str]] | None = None) -> Cleaned:
    """Return the phones of the text, one unit per word and mark, or with `tokenize` one unit per token.

    Args:
        tokenize: a subword tokenizer that ends a token at each space; a word's phones are spread over its tokens.

    Raises InvalidRequest for a text without a word.
    """
    spoken = normalize(text)
    units: list[Phones] = []
    for chunk in spoken.split():
        pieces = _PIECE.findall(chunk)
        units.extend(map(_piece, pieces) if tokenize is None else _over_tokens(pieces, list(tokenize(chunk))))
    return padded(spoken or text, "EN", units)


def word_phones(word: str) -> Phones:
    """Return phones and tones of a word; a number or an abbreviation may be read as several words."""
    return _word_phones(word)


def _piece(piece: str) -> Phones:
    if piece in PUNCTUATION:
        return (piece,), (0,)
    # What `normalize` left in capitals is spelled, also where the dictionary has a word: US, IT.
    return _letter_to_sound(piece) if len(piece) > 1 and piece.isalpha() and piece.isupper() else word_phones(piece)


def _over_tokens(pieces: list[str], tokens: list[str]) -> list[Phones]:
    """Return the phones of each token between two spaces.

    The phones of a word or mark are spread over the tokens that begin in it.
    """
    if not tokens:
        return [_piece(piece) for piece in pieces]
    owners = _owners(pieces, tokens)
    shares: list[list[tuple[str, int]]] = [[] for _ in tokens]
    previous = 0
    for index, piece in enumerate(pieces):
        own = [token for token, owner in enumerate(owners) if owner == index] or [previous]
        previous = own[-1]
        phones = list(zip(*_piece(piece), strict=True))
        for token, share in zip(own, spread(len(phones), len(own)), strict=True):
            shares[token].extend(phones[:share])
            del phones[:share]
    return [(tuple(p for p, _ in share), tuple(t for _, t in share)) for share in shares]


def _owners(pieces: list[str], tokens: list[str]) -> list[int]:
    """Return the index of the word or mark in which each token begins, -1 for a token without letters.

    Positions are counted in letters; past the last letter, tokens belong to the last word or mark.
    """
    spelled = [index for index, piece in enumerate(pieces) for _ in piece]
    owners: list[int] = []
    position = 0
    for token in tokens:
        letters = len(token.replace("▁", "").removeprefix("##"))
        owners.append(spelled[min(position, len(spelled) - 1)] if letters else -1)
        position += letters
    return owners


@lru_cache(maxsize=16384)
def _word_phones(word: str) -> Phones:
    entry = _dictionary().get(word.lower())
    return _arpabet(entry.split()) if entry else _letter_to_sound(word)


def _arpabet(phones: list[str]) -> Phones:
    names = tuple("V" if phone == "V" else phone.rstrip("012").lower() for phone in phones)
    return names, tuple(int(p[-1]) + 1 if p[-1].isdigit() else _CONSONANT_TONE for p in phones)


def _letter_to_sound(word: str) -> Phones:
    """Return the phones of a word that is not in the dictionary; capitals are spelled."""
    if plural := _PLURAL.fullmatch(word):
        phones, tones = _word_phones(plural[1] or plural[2])
        ending = next(ending for after, ending in _ENDINGS if not after or phones[-1] in after)
        return phones + ending, tones + tuple(1 if phone == "ih" else _CONSONANT_TONE for phone in ending)
    need("gruut")
    from tritone.text.phonemes import BREAKS, WORD_BOUNDARY, phonemize

    sounds = [symbol for symbol in phonemize(word) if symbol not in (*BREAKS, WORD_BOUNDARY)]
    return tuple(_ARPABET[sound.lstrip("ˈˌ")] for sound in sounds), tuple(_ipa_tone(sound) for sound in sounds)


def _ipa_tone(sound: str) -> int:
    vowel = _ARPABET[sound.lstrip("ˈˌ")][0] in "aeiou"
    return _STRESS.get(sound[0], 1) if vowel else _CONSONANT_TONE


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, str]:
    lines = lzma.decompress(_DICTIONARY.read_bytes()).decode().splitlines()
    return dict(line.split(" ", 1) for line in lines)
