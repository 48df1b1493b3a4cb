"""Text as it is spoken: numbers, dates and units in words, in the language that the text is in.

The numbers of English, of Chinese, and of Japanese (text with kana) are read by our own rules, which need no package;
other languages keep their digits. What Chinese text becomes beyond that is as in the published front end.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tritone.text.reading import chinese, english, japanese
from tritone.text.reading.languages import language_of
from tritone.text.reading.plain import plain_text

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


def _spaced(text: str, read: Callable[[str], str]) -> str:
    """Return a part of the text as it is read, with the space that was around it."""
    bare = text.strip()
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return before + read(bare) + after if bare else text


def _chinese(text: str) -> str:
    """Without line breaks, spaces next to Chinese and brackets; the marks of sentences in their Chinese form."""
    text = _LONELY_SPACE.sub("", text.replace("\n", ""))
    for mark, spoken in _CHINESE_MARKS.items():
        text = text.replace(mark, spoken)
    return _TRAILING_COMMAS.sub("。", text)


_READERS: dict[str, Callable[[str], str]] = {
    "zh": chinese.in_words,
    "ja": japanese.in_words,
    "en": english.in_words,
}
