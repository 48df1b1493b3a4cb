"""The way in: text of one language, or of several, as phones and as the ids the text encoder is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tritone.families.bert_vits2.text import chinese, english, japanese
from tritone.families.bert_vits2.text.mixed import split_languages
from tritone.families.bert_vits2.text.symbols import Cleaned, TextIds, language_of, to_ids

MIXED = "AUTO"
"""The language that stands for whichever languages the text is in."""

Tokenize = Callable[[str], Sequence[str]]


def clean(text: str, language: str, tokenize: Tokenize | None = None) -> Cleaned:
    """Phones, tones and word2ph of text in one language.

    Args:
        language: "ZH", "JP" or "EN".
        tokenize: subword tokens of English, where features of a BERT encoder will go with the phones.

    Raises:
        InvalidRequest: an unknown language, or text in which nothing has a sound in it.
        EnvironmentProblem: a package the language needs is not installed.
    """
    language = language_of(language)
    if language == "EN":
        return english.clean(text, tokenize)
    return chinese.clean(text) if language == "ZH" else japanese.clean(text)


def clean_parts(text: str, language: str = MIXED, tokenize: Tokenize | None = None, han: str = "ZH") -> list[Cleaned]:
    """Return the text cleaned, one entry per stretch of one language; just one unless `language` is "auto".

    Args:
        han: with "auto", the language of Chinese characters that may be either.

    Raises as `clean`; also InvalidRequest for a tag in the text that names no language.
    """
    if language.upper() != MIXED:
        return [clean(text, language, tokenize)]
    return [clean(part, name, tokenize) for name, part in split_languages(text, language_of(han))]


def text_ids(text: str, language: str = MIXED, tokenize: Tokenize | None = None) -> TextIds:
    """Phone, tone and language ids of the text with blanks, int64 `[phones]` each."""
    return to_ids(clean_parts(text, language, tokenize))
