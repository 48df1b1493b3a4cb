"""The table of English readings through every family's front end; what is missed is listed, and nothing else is."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.readings import FAMILIES, missed, rows

from tritone.errors import InvalidRequest
from tritone.text.reading.en.numbers import cardinal, digits, ordinal, year
from tritone.text.reading.english import in_words
from tritone.text.split import MAX_CHARACTERS

pytest.importorskip("gruut")
TABLE = rows("english")
PROPERTIES = settings(max_examples=150, derandomize=True, deadline=None, database=None)


def same(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text))


def test_the_rules_read_the_table() -> None:
    found = {row.written: in_words(row.written) for row in TABLE if not row.missed}
    assert {w: same(s) for w, s in found.items()} == {row.written: same(row.spoken) for row in TABLE if not row.missed}
    assert len(TABLE) >= 150 and len({row.written for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_reads_the_table_but_for_what_is_listed(family: str) -> None:
    expected = [row.written for row in TABLE if family in row.missed]
    assert [row.written for row in missed(TABLE, family, FAMILIES[family])] == expected
    assert len(expected) <= 0.02 * len(TABLE)


def test_a_reading_is_not_read_again() -> None:
    again = {row.spoken: in_words(row.spoken) for row in TABLE if row.spoken[0].isupper()}
    assert {spoken for spoken, text in again.items() if spoken.replace(" – ", " ") != text.replace(" – ", " ")} == set()


@pytest.mark.parametrize("sign", "₠₢₣₥₧₯₰₳₶₷")
def test_a_currency_without_a_name_is_refused_by_name(sign: str) -> None:
    for text in (f"{sign}50", f"50 {sign}", f"It costs {sign} 1.5 million."):
        with pytest.raises(InvalidRequest, match=f"target_text: has the currency sign {sign} .* Write the name"):
            in_words(text)


@PROPERTIES
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_no_digit_is_left(text: str) -> None:
    try:
        spoken = in_words(text)
    except InvalidRequest as error:
        assert "currency sign" in str(error)
        return
    assert not any(character.isdecimal() for character in spoken)


MIXED = st.text(string.digits + " .,-/:$€%°#'\"+×^½²–kgmAPaeTh()", max_size=40)


@PROPERTIES
@given(MIXED)
def test_no_number_vanishes(text: str) -> None:
    spoken = in_words(text)
    assert not any(character.isdecimal() for character in spoken)
    assert any(character.isalpha() for character in spoken) or not any(character.isdecimal() for character in text)
    assert in_words(spoken) == in_words(in_words(spoken))


@PROPERTIES
@given(st.integers(0, 10**15 - 1))
def test_a_number_keeps_its_value(value: int) -> None:
    spoken = in_words(f"{value:,} of these")
    assert words_to_number(spoken.removesuffix(" of these")) == value
    assert spoken.removesuffix(" of these") == cardinal(value)


FORMS = (
    "{} cats",
    "#{}",
    "${}",
    "{}%",
    "{} kg",
    "{}°C",
    "it is -{} now",
    "({})",
    "US${}",
    "{}€",
    "no. {}",
    "x{}y",
    "⁕{}⁕",
)


@PROPERTIES
@given(st.integers(0, 99), st.sampled_from(FORMS), st.sampled_from(("", "#5 – ", "[x] ~ ", "5'' ", "« ", "A/B ")))
def test_an_odd_form_beside_a_number_changes_nothing(value: int, form: str, before: str) -> None:
    assert same(cardinal(value)) in same(in_words(before + form.format(value)))


SMALL = {cardinal(value): value for value in range(20)} | {cardinal(value): value for value in range(20, 100, 10)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def words_to_number(words: str) -> int:
    """Return the value of a cardinal in words, by counting: its own way back."""
    total = group = 0
    for word in words.replace(" and ", " ").split():
        if word in SMALL:
            group += SMALL[word]
        elif word == "hundred":
            group *= 100
        else:
            total, group = total + group * SCALES[word], 0
    return total + group


@PROPERTIES
@given(
    st.lists(
        st.sampled_from(["the", "a", "cat", "sat", "down", "and", "then", "we", "all", "went", "home", "quickly"]),
        min_size=1,
    )
)
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    text = " ".join(words) + "."
    assert in_words(text) == text


@pytest.mark.parametrize("part", ["1", "1-", "a.", "a-b_", " \t", "\n", "$", "*a"])
def test_the_longest_text_of_one_kind_is_read_without_trying_everything(part: str) -> None:
    text = (part * MAX_CHARACTERS)[:MAX_CHARACTERS]
    assert not any(character.isdecimal() for character in in_words(text))


def test_names_of_numbers() -> None:
    assert digits("02134") == "zero two one three four" and ordinal(100) == "one hundredth"
    assert [year(n) for n in (1000, 1066, 1900, 1905, 2000, 2009, 2010)] == [
        "one thousand", "ten sixty six", "nineteen hundred", "nineteen oh five", "two thousand", "two thousand nine",
        "twenty ten",
    ]  # fmt: skip
