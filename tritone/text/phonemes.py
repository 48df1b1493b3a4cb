"""American English text to phones, offline, through gruut (lexicon, part-of-speech tagger, letter-to-sound model).

One symbol is one phone with its stress mark, a word boundary, or a break; `SYMBOLS` is the closed inventory, and
`"".join(f"[{symbol}]")` is the text a phoneme tokenizer reads.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache

from tritone.errors import InvalidRequest
from tritone.text.normalize import normalize

_CONSONANTS = (
    *("b", "d", "d͡ʒ", "f", "h", "j", "k", "l", "m", "n", "p", "s"),
    *("t", "t͡ʃ", "v", "w", "z", "ð", "ŋ", "ɡ", "ɹ", "ʃ", "ʒ", "θ"),
)
_VOWELS = ("aɪ", "aʊ", "eɪ", "i", "oʊ", "u", "æ", "ɑ", "ɔ", "ɔɪ", "ɚ", "ɛ", "ɪ", "ʊ", "ʌ")
_STRESSES = ("", "ˈ", "ˌ")

PHONES: tuple[str, ...] = (
    *_CONSONANTS,
    "ə",
    *(stress + vowel for vowel in _VOWELS for stress in _STRESSES),
)
"""Every phone of the American English lexicon, vowels once per stress (none, primary, secondary)."""
WORD_BOUNDARY = "_"
BREAKS: tuple[str, ...] = (",", ".", "?", "!")
"""Minor break, then the three ways a sentence ends."""
SYMBOLS: tuple[str, ...] = (*PHONES, WORD_BOUNDARY, *BREAKS)


def phonemize(text: str) -> list[str]:
    """Symbols of the text, words separated by exactly one boundary or break, a sentence end last: "hi you" ->
    h ˈaɪ _ j ˈu .

    Raises InvalidRequest when nothing in the text can be spoken or a letter is not English.
    """
    return list(_phonemize(normalize(text)))


@lru_cache(maxsize=4096)
def _phonemize(text: str) -> tuple[str, ...]:
    from gruut import sentences

    logging.getLogger("gruut").setLevel(logging.CRITICAL)  # it logs a traceback for each number it leaves as it is
    symbols: list[str] = []
    separator = ""
    for sentence in sentences(text, lang="en-us"):
        for word in sentence:
            if word.is_major_break or word.is_minor_break:
                separator = _break_symbol(word.text, bool(word.is_major_break))
            elif spoken := word.phonemes or _spelled(word.text):
                if symbols:
                    symbols.append(separator or WORD_BOUNDARY)
                symbols.extend(spoken)
                separator = ""
        if separator in ("", ","):
            separator = "."
    unknown = sorted(set(symbols) - set(SYMBOLS))
    if not symbols or unknown:
        found = f"unknown sounds {' '.join(unknown)}" if unknown else "no word that can be spoken"
        raise InvalidRequest("target_text", f"{found} in {text[:60]!r}")
    return (*symbols, separator)


def _spelled(text: str) -> tuple[str, ...]:
    """Return a word without sounds of its own (31/02/2020) said in its parts or letter by letter.

    Empty for punctuation.
    """
    parts = re.findall(r"[A-Za-z]+|[0-9]+", text)
    if not parts:
        return ()
    spelled = " ".join(parts)
    return _phonemize(spelled if spelled != text else " ".join(text))[:-1] if len(text) > 1 else ()


def _break_symbol(text: str, major: bool) -> str:
    """Return the break a punctuation mark stands for."""
    if "?" in text:
        return "?"
    if "!" in text:
        return "!"
    return "." if major else ","
