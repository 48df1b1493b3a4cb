"""The phoneme front end: what is said for numbers, symbols and punctuation, and what it refuses."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from tritone.errors import InvalidRequest
from tritone.text.normalize import normalize
from tritone.text.phonemes import BREAKS, PHONES, SYMBOLS, WORD_BOUNDARY, phonemize


def test_the_inventory_is_exactly_the_lexicons() -> None:
    import gruut_lang_en

    lexicon = sqlite3.connect(Path(gruut_lang_en.__file__).parent / "lexicon.db")
    found = {phone for (row,) in lexicon.execute("select phonemes from word_phonemes") for phone in row.split()}
    assert found == set(PHONES)
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 75


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("hi you", "h ˈaɪ _ j ˈu ."),
        ("Hello, world!", "h ɛ l ˈoʊ , w ˈɚ l d !"),
        ("Really?! Yes; no.", "ɹ ˈɪ l i ? j ˈɛ s , n ˈoʊ ."),
        ("25", "t w ˈɛ n t i _ f ˈaɪ v ."),
        ("(hi) -- you", "h ˈaɪ , j ˈu ."),
        ("judge chat", "d͡ʒ ˈʌ d͡ʒ _ t͡ʃ ˈæ t ."),
    ],
)
def test_symbols(text: str, symbols: str) -> None:
    assert phonemize(text) == symbols.split()


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("MP3", "MP three"),
        ("the '90s and 1985s", "the nineties and nineteen eighty fives"),
        ("24/7", "twenty four seven"),
        ("1/2 cup", "one half cup"),
        ("12/25/2020", "December twenty fifth, twenty twenty"),
        ("192.168.0.1", "one nine two dot one six eight dot zero dot one"),
        ("foo@bar.com", "foo at bar dot com"),
        ("the U.S. now", "the U.S. now"),
        ("¥7, 100 % & 20°C", "seven yen, one hundred percent and twenty degrees Celsius"),
        ("5'4\" tall", "five foot four tall"),
        ("10 am", "ten AM"),
        ("3rd", "third"),
        ("naïve “café”", 'naive "cafe"'),
        ("co\u00adop 🎉", "coop"),
        ("1" * 18, ", ".join(["one one one"] * 6)),
        ("hello\x00world", "hello world"),
    ],
)
def test_normalize(text: str, spoken: str) -> None:
    assert normalize(text) == spoken


@pytest.mark.parametrize("text", ["31/02/2020", "00:00:00", "25:99", "99/99/9999", "1/1/1"])
def test_what_looks_like_a_date_or_time_but_is_none_is_not_swallowed(text: str) -> None:
    spoken = phonemize(f"on {text} we")
    assert len(spoken) > len(phonemize("on we")) + 3
    assert set(spoken) <= set(SYMBOLS)


def test_words_are_separated_by_exactly_one_boundary_and_a_sentence_end_is_last() -> None:
    symbols = phonemize('He said: "no" (twice), then... left? Dr. Smith, $3.50 -- at 3:30pm')
    separators = {WORD_BOUNDARY, *BREAKS}
    assert symbols[0] not in separators and symbols[-1] == "."
    assert not any(a in separators and b in separators for a, b in pairwise(symbols))
    assert set(symbols) <= set(SYMBOLS)


def test_the_same_text_gives_the_same_symbols() -> None:
    text = "I read the record that they record."
    assert phonemize(text) == phonemize(text)
    phonemize(text).clear()
    assert phonemize(text)


def test_another_script_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="target_text: this voice speaks English and has no sounds for 你 好"):
        phonemize("hi 你好")
    with pytest.raises(InvalidRequest, match="has no sounds for ௰"):
        phonemize("number ௰")


def test_nothing_to_say_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no word that can be spoken in '!!!'"):
        phonemize("!!!")
