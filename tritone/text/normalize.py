"""English text to speakable words in plain letters, ready for a pronunciation library.

What is written in digits and signs is put in words first (`reading.english`); then words in capitals are kept apart
from abbreviations, and punctuation becomes that of the library.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from functools import lru_cache
from pathlib import Path

from tritone.errors import InvalidRequest
from tritone.text.reading.en.capitals import capitals_as_words
from tritone.text.reading.english import in_words

_PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ`´", "'"),
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("‐‑", "-"),
        **dict.fromkeys("–—―", " -- "),
        **dict.fromkeys("。．", "."),
        **dict.fromkeys("，、", ","),
        **dict.fromkeys("()[]", ", "),
        "！": "!",
        "？": "?",
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "đ": "d",
        "Đ": "D",
        "ı": "i",
    }
)
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\.{2,}|…", ", "),
        (r"\s-{1,3}\s|-{2,}", ", "),
        (r"(?<=[A-Za-z]{2})\.(?=[A-Za-z]{2})", " dot "),
        (r"(?<=[A-Za-z])[/\\](?=[A-Za-z])", " "),
    )
)
_UNSPOKEN = re.compile(r"[^A-Za-z0-9.,;:!?'\"/\s-]")


def normalize(text: str) -> str:
    """Return the text in plain ASCII letters and punctuation, ready for an English pronunciation library.

    Raises InvalidRequest when a letter or number has no place in English text (another script), naming it, and for
    what `in_words` refuses.
    """
    text = in_words(text).translate(_PUNCTUATION)
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    foreign = sorted({c for c in text if not c.isascii() and unicodedata.category(c)[0] in "LN"})
    if foreign:
        shown = " ".join(foreign[:8])
        raise InvalidRequest("target_text", f"this voice speaks English and has no sounds for {shown}")
    text = capitals_as_words(text, _is_word)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return " ".join(_UNSPOKEN.sub(" ", text).split())


@lru_cache(maxsize=4096)
def _is_word(word: str) -> bool:
    """Return whether the pronunciation library's lexicon has the word."""
    import gruut_lang_en

    lexicon = sqlite3.connect(f"{(Path(gruut_lang_en.__file__).parent / 'lexicon.db').as_uri()}?mode=ro", uri=True)
    try:
        return lexicon.execute("select 1 from word_phonemes where word = ?", (word,)).fetchone() is not None
    finally:
        lexicon.close()
