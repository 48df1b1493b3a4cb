"""Text as it is spoken: numbers, dates and units in words, in the language that the text is in.

English and its numbers are read by our own rules; the work of Chinese is done by wetext, as in the published front end.
Without that package Chinese passes with its digits, and one warning says so. Other languages keep theirs.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from tritone.text.reading.english import in_words
from tritone.text.reading.languages import language_of
from tritone.text.reading.plain import plain_text

PACKAGES = ("wetext",)
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

    Other tags (`[breath]`, `<strong>`, `[AA1]`) stay as they are, and what stands between them is rewritten. A text in
    a language without rules here keeps its digits.

    Raises InvalidRequest for what has no reading, such as an unknown currency sign in English.
    """
    if has_special_tokens(text):
        return text
    text = plain_text(text).strip()
    # The language is set once for the whole text: a part of it may be a lone number.
    language = language_of(_TAG.sub(" ", text))
    read = _READERS.get(language, str)
    parts = [part if index % 2 else _spaced(part, read) for index, part in enumerate(_TAG.split(text))]
    return _chinese("".join(parts)) if language == "zh" else "".join(parts)


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


def _spaced(text: str, read: Callable[[str], str]) -> str:
    """Return a part of the text as it is read, with the space that was around it."""
    bare = text.strip()
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return before + read(bare) + after if bare else text


def _chinese_words(text: str) -> str:
    """Return Chinese text through wetext; as it was where wetext is missing or cannot read it."""
    if (normalizer := _wetext()) is None:
        return text
    try:
        with _LOCK:
            spoken = str(normalizer.normalize(text, lang="zh"))
    except (AssertionError, IndexError, KeyError, RuntimeError, ValueError) as error:
        _LOG.warning("text stays as it is written, wetext cannot read it (%s): %.60s", type(error).__name__, text)
        return text
    # wetext 0.1.8 returns quotes and backslashes escaped.
    return re.sub(r'\\(["\\])', r"\1", spoken)


def _chinese(text: str) -> str:
    """Without line breaks, spaces next to Chinese and brackets; the marks of sentences in their Chinese form."""
    text = _LONELY_SPACE.sub("", text.replace("\n", ""))
    for mark, spoken in _CHINESE_MARKS.items():
        text = text.replace(mark, spoken)
    return _TRAILING_COMMAS.sub("。", text)


_READERS: dict[str, Callable[[str], str]] = {"zh": _chinese_words, "en": in_words}
