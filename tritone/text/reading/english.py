"""English text as it is read aloud: numbers, money, measures, dates, signs and abbreviations in words.

One reading for every family. Each step reads one kind of form and leaves the rest to those after it, so that an odd
form never keeps another from being read; the last steps read every number that is still there. Needs no package.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tritone.text.reading.en.abbreviations import abbreviations_in_words
from tritone.text.reading.en.addresses import addresses_in_words
from tritone.text.reading.en.counts import counts_in_words, leftover_numbers
from tritone.text.reading.en.dates import dates_in_words
from tritone.text.reading.en.ids import ids_in_words, letters_and_digits
from tritone.text.reading.en.money import money_in_words
from tritone.text.reading.en.roman import roman_in_words
from tritone.text.reading.en.signs import leftover_signs, signs_in_words
from tritone.text.reading.en.times import times_in_words
from tritone.text.reading.en.units import units_in_words
from tritone.text.reading.plain import plain_text

_STEPS: tuple[Callable[[str], str], ...] = (
    plain_text,
    addresses_in_words,
    abbreviations_in_words,
    roman_in_words,
    dates_in_words,
    times_in_words,
    ids_in_words,
    money_in_words,
    units_in_words,
    signs_in_words,
    counts_in_words,
    letters_and_digits,
    leftover_numbers,
    leftover_signs,
)
_SPACES = re.compile(r"[ \t]{2,}")
_SPACE_BEFORE_MARK = re.compile(r" +(?=[,.;:!?](?:\s|$))")


def in_words(text: str) -> str:
    """Return the text with everything in it that is written in digits and signs in words.

    Line breaks and punctuation stay. Raises InvalidRequest for a currency sign that has no name here.
    """
    text = _SPACES.sub(" ", text)
    for step in _STEPS:
        text = step(text)
    return _SPACE_BEFORE_MARK.sub("", _SPACES.sub(" ", text)).strip(" ")
