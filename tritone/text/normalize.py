"""English text to speakable words: symbols become words, and what a letter-to-sound model trips over is spelled out.

Numbers, dates, times, money and abbreviations are left to the pronunciation library; this module only rewrites the
forms that library drops or misreads (checked case by case in the tests).
"""

from __future__ import annotations

import re
import unicodedata

from tritone.errors import InvalidRequest

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
_SYMBOLS = {
    "&": " and ",
    "@": " at ",
    "+": " plus ",
    "=": " equals ",
    "%": " percent ",
    "°": " degrees ",
    "×": " times ",
    "÷": " divided by ",
}
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"°\s*([CF])\b", r" degrees \1 "),
        (r"¥\s?(\d[\d,.]*\d|\d)", r"\1 yen"),
        (r"#\s?(?=\d)", " number "),
        (r"\.{2,}|…", ", "),
        (r"\s-{1,3}\s|-{2,}", ", "),
        (r"\b1/2\b(?!/)", "one half"),
        (r"\b1/4\b(?!/)", "one quarter"),
        (r"\b3/4\b(?!/)", "three quarters"),
        (r"(?<![\d/])(\d+)/(\d+)(?![\d/])", r"\1 \2"),
        (r"(?<=[A-Za-z]{2})\.(?=[A-Za-z]{2})", " dot "),
        (r"(?<=[A-Za-z])[/\\](?=[A-Za-z])", " "),
        (r"(?<=\d)['\"](?=[\d\s]|$)", " "),
        (r"(?<=\d)\s?([AaPp])\.?[Mm]\b", r" \1 M"),
        (r"(?<=\d)(?=[A-Za-z])(?!(?:st|nd|rd|th|s)\b)|(?<=[A-Za-z])(?=\d)", " "),
    )
)
_DECADE = re.compile(r"(?<![\w.])'?(\d{2}|\d{4})s\b")
_DOTTED = re.compile(r"\d+(?:\.\d+){2,}")
_LONG_NUMBER = re.compile(r"\d(?:[.,]?\d){15,}")
_UNSPOKEN = re.compile(r"[^A-Za-z0-9.,;:!?'\"$£€/\s-]")


def normalize(text: str) -> str:
    """Return the text in plain ASCII letters, digits and punctuation, ready for an English pronunciation library.

    Raises InvalidRequest when a letter has no place in English text (another script), naming the letters.
    """
    text = unicodedata.normalize("NFKC", text.translate(_PUNCTUATION)).translate(_PUNCTUATION)
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) not in ("Mn", "Cf"))
    foreign = sorted({c for c in text if c.isalpha() and not c.isascii()})
    if foreign:
        shown = " ".join(foreign[:8])
        raise InvalidRequest("target_text", f"this voice speaks English and has no sounds for {shown}")
    text = _LONG_NUMBER.sub(lambda match: " ".join(c for c in match.group() if c.isdigit()), text)
    text = _DOTTED.sub(lambda match: match.group().replace(".", " point "), text)
    text = _DECADE.sub(lambda match: _decade(match.group(1)), text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    return " ".join(_UNSPOKEN.sub(" ", text).split())


def _decade(digits: str) -> str:
    """Return the plural of a year or decade in words: 1990 -> nineteen nineties."""
    from num2words import num2words

    words = str(num2words(int(digits), to="year" if len(digits) == 4 else "cardinal"))
    return words[:-1] + "ies" if words.endswith("y") else words + "s"
