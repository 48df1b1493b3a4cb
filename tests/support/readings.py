"""Tables of written forms and their readings, and how each family's front end reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parents[1] / "unit" / "text" / "readings"


class Row(NamedTuple):
    """A written form and its reading; `missed` names the families whose front end reads it otherwise."""

    written: str
    spoken: str
    missed: frozenset[str]


def rows(language: str) -> list[Row]:
    """Return the table of a language."""
    lines = (FOLDER / f"{language}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = [line.split("\t") for line in lines]
    return [Row(written, spoken, frozenset(missed.split())) for written, spoken, missed, _note in found]


def nano(text: str) -> object:
    """Return the phones that nano is given."""
    from tritone.text.phonemes import BREAKS, WORD_BOUNDARY, phonemize

    return [symbol for symbol in phonemize(text) if symbol not in (*BREAKS, WORD_BOUNDARY)]


def cosyvoice(text: str) -> object:
    """Return the words that CosyVoice is given."""
    from tritone.text.spoken_form import spoken_form

    return re.findall(r"[^\W_]+(?:'\w+)?", spoken_form(text))


def bert_vits2(text: str) -> object:
    """Return the phones and tones that Bert-VITS2 is given for English, without marks."""
    from tritone.families.bert_vits2.text import english
    from tritone.families.bert_vits2.text.symbols import PUNCTUATION

    cleaned = english.clean(text)
    return [pair for pair in zip(cleaned.phones, cleaned.tones, strict=True) if pair[0] not in PUNCTUATION]


def without_spaces(text: str) -> object:
    """Return the letters that CosyVoice is given in a language without spaces."""
    from tritone.text.spoken_form import spoken_form

    return re.sub(r"[\W_]+", "", spoken_form(text))


def bert_vits2_segments(language: str) -> Callable[[str], object]:
    """Return a function from a text to the phones, tones and languages of all its segments, without marks."""

    def read(text: str) -> object:
        from tritone.families.bert_vits2.request import segments
        from tritone.families.bert_vits2.text.frontend import clean
        from tritone.families.bert_vits2.text.symbols import PAD, PUNCTUATION

        parts = [clean(part, name) for segment in segments(text, language) for name, part in segment]
        return [
            (phone, tone, part.language)
            for part in parts
            for phone, tone in zip(part.phones, part.tones, strict=True)
            if phone not in (*PUNCTUATION, PAD)
        ]

    return read


Reader = Callable[[str], object]
FAMILIES: dict[str, Reader] = {"nano": nano, "cosyvoice": cosyvoice, "bert_vits2": bert_vits2}
"""The front ends of English."""
READERS: dict[str, dict[str, Reader]] = {
    "english": FAMILIES,
    "chinese": {"cosyvoice": without_spaces, "bert_vits2": bert_vits2_segments("ZH")},
    "japanese": {"cosyvoice": without_spaces, "bert_vits2": bert_vits2_segments("JP")},
}
"""The front ends of each language; nano speaks English alone."""


def missed(table: list[Row], family: str, read: Reader) -> list[Row]:
    """Return the rows whose written form is not read like the reading."""
    return [row for row in table if read(row.written) != read(row.spoken)]


def share_right(language: str) -> dict[str, float]:
    """Return the share of the table that each family's front end reads right."""
    table = rows(language)
    return {name: 1 - len(missed(table, name, read)) / len(table) for name, read in READERS[language].items()}


if __name__ == "__main__":
    for each in READERS:
        for family, share in share_right(each).items():
            print(f"{each} {family}: {share:.1%} of {len(rows(each))}")
