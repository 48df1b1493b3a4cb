"""Chinese and English text as it is spoken: numbers, dates and units in words, the way the published models expect it.

The work is done by wetext and, for English digits it leaves, inflect. Both are optional: without them text passes with
its digits, and one warning says so.
"""

from __future__ import annotations

import logging
import re
import threading
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from typing import Any

PACKAGES = ("wetext", "inflect")
_LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()

_CHINESE = re.compile("[\u4e00-\u9fff]")
_TAG = re.compile(r"(<\|[^|<>]*\|>|\[[^\[\]\s]{1,20}\]|</?[a-z]+>)")
_LONELY_SPACE = re.compile(r"(?<![^ \u0080-\U0010ffff]) | (?![^ \u0080-\U0010ffff])")
_CHINESE_MARKS = {
    **{"²": "平方", "³": "立方", ".": "。", " - ": "，"},
    **dict.fromkeys("（）【】`", ""),
    "——": " ",
}
_TRAILING_COMMAS = re.compile("[，,、]+$")


def has_chinese(text: str) -> bool:
    """Return whether the rules of Chinese apply to the text: one Chinese character is enough."""
    return _CHINESE.search(text) is not None


def has_special_tokens(text: str) -> bool:
    """Return whether the text holds `<|...|>`; such text is the caller's own spelling and is never rewritten."""
    return "<|" in text and "|>" in text


def spoken_form(text: str) -> str:
    """Return the text with everything written in symbols in words; unchanged when it holds `<|...|>`.

    Other tags (`[breath]`, `<strong>`, `[AA1]`) stay as they are, and what stands between them is rewritten.
    """
    if has_special_tokens(text):
        return text
    # The language is set once for the whole text: wetext alone takes a lone number for Chinese.
    language = "zh" if has_chinese(text) else "en"
    parts = [part if index % 2 else _rewrite(part, language) for index, part in enumerate(_TAG.split(text.strip()))]
    if language == "zh":
        return _chinese("".join(parts))
    return "".join(part if index % 2 else _spell_digits(part) for index, part in enumerate(parts))


def missing_packages() -> list[str]:
    """Return the optional packages that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


@lru_cache(maxsize=1)
def _warn_once() -> None:
    if missing := missing_packages():
        _LOG.warning(
            "numbers, dates and symbols in text stay as they are written, because text normalisation is not fully "
            "installed (%s); run: pip install 'tritone[text]'",
            ", ".join(missing),
        )


@lru_cache(maxsize=1)
def _wetext() -> Any:
    _warn_once()
    if find_spec("wetext") is None:
        return None
    import wetext

    return wetext.Normalizer(operator="tn", remove_erhua=False)


@lru_cache(maxsize=1)
def _inflect() -> Any:
    if find_spec("inflect") is None:
        return None
    import inflect

    return inflect.engine()


def _rewrite(text: str, language: str) -> str:
    """Return the text through wetext, with the space around it; as it was where wetext is missing or cannot read it."""
    bare = text.strip()
    if not bare or (normalizer := _wetext()) is None:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    try:
        with _LOCK:
            spoken = str(normalizer.normalize(bare, lang=language))
    except (AssertionError, IndexError, KeyError, RuntimeError, ValueError) as error:
        _LOG.warning("text stays as it is written, wetext cannot read it (%s): %.60s", type(error).__name__, bare)
        return text
    # wetext 0.1.8 returns quotes and backslashes escaped.
    return before + re.sub(r'\\(["\\])', r"\1", spoken) + after


def _chinese(text: str) -> str:
    """Without line breaks, spaces next to Chinese and brackets; the marks of sentences in their Chinese form."""
    text = _LONELY_SPACE.sub("", text.replace("\n", ""))
    for mark, spoken in _CHINESE_MARKS.items():
        text = text.replace(mark, spoken)
    return _TRAILING_COMMAS.sub("。", text)


def _spell_digits(text: str) -> str:
    """Return every run of digits as English words."""
    engine = _inflect()
    if engine is None:
        return text
    return "".join(
        _number(engine, "".join(run)) if decimal else "".join(run) for decimal, run in groupby(text, str.isdecimal)
    )


def _number(engine: Any, digits: str) -> str:
    """Return a number in words; digit by digit beyond what has a name."""
    if len(digits) > 36:
        return " ".join(str(engine.number_to_words(digit)) for digit in digits)
    return str(engine.number_to_words(digits))
