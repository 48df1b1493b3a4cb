"""Text of one or several languages turned into phones, and into the ids that the text encoder takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tritone.families.bert_vits2.text import chinese, english, japanese
from tritone.families.bert_vits2.text.mixed import MIXED, spoken_parts
from tritone.families.bert_vits2.text.symbols import Cleaned, TextIds, language_of, to_ids

__all__ = ["MIXED", "clean", "clean_parts", "text_ids"]

Tokenize = Callable[[str], Sequence[str]]


def clean(text: str, language: str, tokenize: Tokenize | None = None) -> Cleaned:
    """Return phones, tones and word2ph of a text in one language.

    Args:
        language: "ZH", "JP" or "EN".
        tokenize: returns subword tokens of English, if the phones will go with features of a BERT encoder.

    Raises:
        InvalidRequest: the language is unknown, nothing in the text has a sound in it, or words in other letters would
            be left out.
        EnvironmentProblem: a package that the language needs is not installed.
    """
    language = language_of(language)
    if language == "EN":
        return english.clean(text, tokenize)
    return chinese.clean(text) if language == "ZH" else japanese.clean(text)


def clean_parts(text: str, language: str = MIXED, tokenize: Tokenize | None = None, han: str = "ZH") -> list[Cleaned]:
    """Return the cleaned text, one entry per stretch of one language; a single entry unless `language` is "auto".

    Args:
        han: with "auto", the language of Chinese characters that may be either.

    Raises the errors of `clean`, and InvalidRequest for a tag in the text with an unknown language.
    """
    if language.upper() != MIXED:
        return [clean(text, language, tokenize)]
    return [clean(part, name, tokenize) for name, part in spoken_parts(text, MIXED, language_of(han))]


def text_ids(text: str, language: str = MIXED, tokenize: Tokenize | None = None) -> TextIds:
    """Return phone, tone and language ids of the text with blanks, int64 `[phones]` each."""
    return to_ids(clean_parts(text, language, tokenize))
