"""Accepted text, and its division into segments."""

from __future__ import annotations

import pytest

from tritone.errors import InvalidRequest
from tritone.text.split import MAX_CHARACTERS, check_text, split_text, spoken_length


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the text is empty"),
        (" \n\t ", "the text is empty"),
        ("?!... --", "nothing to speak in '\\?!... --': no letter or digit"),
        ("a" * (MAX_CHARACTERS + 1), "5001 characters; the limit is 5000"),
        (b"caf\xe9", "not valid UTF-8 \\(byte 3: unexpected end of data\\)"),
    ],
)
def test_text_that_cannot_be_spoken_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=f"INVALID_ARGUMENT: target_text: {problem}"):
        check_text(text)


def test_the_field_at_fault_is_named() -> None:
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT: reference_text: the text is empty"):
        check_text("", "reference_text")


def test_good_text_is_decoded_and_trimmed() -> None:
    assert check_text("  naïve ".encode()) == "naïve"
    assert check_text("x" * MAX_CHARACTERS) == "x" * MAX_CHARACTERS


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("One sentence.", ["One sentence."]),
        (
            "The first sentence is here. Is this one the second? Yes, and it is a third one!",
            ["The first sentence is here.", "Is this one the second?", "Yes, and it is a third one!"],
        ),
        ("Dr. Smith paid 3.50 to J. Doe, e.g. for the tea.", ["Dr. Smith paid 3.50 to J. Doe, e.g. for the tea."]),
        ("Hi. You there. It is good to see you both again here.", None),
        ("A line without an end\nand another line below it", ["A line without an end", "and another line below it"]),
        ("今天天气很好我们去公园散步吧。你想和我们一起去公园走走看看吗？", None),
    ],
)
def test_sentences(text: str, segments: list[str] | None) -> None:
    found = split_text(text)
    if segments is not None:
        assert found == segments
    assert "".join("".join(found).split()) == "".join(text.split())


def test_very_short_sentences_join_their_neighbour() -> None:
    assert split_text("Hi. You there. It is good to see you.") == ["Hi. You there. It is good to see you."]


def test_long_sentences_are_cut_at_clauses() -> None:
    text = (
        "When the sun went down behind the hills, the birds that had been singing all day fell silent, "
        "and nothing could be heard but the wind in the trees."
    )
    found = split_text(text)
    assert found[0] == "When the sun went down behind the hills,"
    assert all(spoken_length(piece) <= 80 for piece in found) and " ".join(found) == text


def test_sentences_without_punctuation_are_cut_between_words_evenly() -> None:
    text = " ".join(["word"] * 40)
    found = split_text(text)
    assert " ".join(found) == text
    assert all(40 <= spoken_length(piece) <= 80 for piece in found)


def test_a_word_is_cut_only_when_it_alone_is_too_long() -> None:
    found = split_text(f"start {'x' * 200} end")
    assert all(spoken_length(piece) <= 80 for piece in found)
    assert "".join(found).replace(" ", "") == "start" + "x" * 200 + "end"


def test_digits_count_as_the_words_they_become() -> None:
    assert spoken_length("ab 12") == 15
    found = split_text("Call 555 123 4567 or 555 987 6543 or 555 111 2222 today")
    assert len(found) >= 2 and " ".join(found) == "Call 555 123 4567 or 555 987 6543 or 555 111 2222 today"


def test_every_segment_has_something_to_speak() -> None:
    found = split_text("Well... ... ! And -- then (really) nothing. ?! 'Quoted.' \"Done.\"")
    assert found and all(any(c.isalnum() for c in piece) for piece in found)


def test_the_longest_text_is_cut_quickly_and_completely() -> None:
    text = ("This is a sentence of medium length, with a clause, for the test. " * 80)[:MAX_CHARACTERS]
    found = split_text(text)
    assert " ".join(found) == " ".join(text.split())
    assert max(map(spoken_length, found)) <= 80


@pytest.mark.parametrize("inside", ["一共1318公里", "13800138000", "3.5kg", "iPhone15", "10:05", "50%"])
def test_without_spaces_no_number_unit_or_latin_word_is_cut(inside: str) -> None:
    for before in range(90):
        text = "字" * before + inside + "好" * 90
        found = split_text(text)
        assert "".join(found) == text
        assert any(inside.removeprefix("一共") in piece for piece in found)


def test_text_without_spaces_is_cut_at_its_marks_first() -> None:
    text = "今天天气很好" * 6 + ",我们去公园" + "走走看看" * 10
    assert split_text(text) == ["今天天气很好" * 6 + ",", "我们去公园" + "走走看看" * 10]
    quoted = "他说“今天天气很好，我们去公园走走看看吧。”我说“明天的天气也很好，我们还是明天再去吧！”" * 3
    assert "".join(split_text(quoted)) == quoted and not any(piece.startswith("”") for piece in split_text(quoted))
