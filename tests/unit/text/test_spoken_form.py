"""Numbers and symbols in words, and paragraphs of the published length."""

from __future__ import annotations

import pytest

from tritone.text.paragraph import BOUND, bounded, is_punctuation, paragraphs
from tritone.text.spoken_form import spoken_form


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Dr. Smith paid 3 lbs", "doctor Smith paid three pounds"),
        ("It's 50% off [laughter] in 2024.", "It's fifty percent off [laughter] in twenty twenty four."),
        ('He said "3 \\ 4"', 'He said "three \\ four"'),
        ("Say [AA1] and <strong>5</strong>.", "Say [AA1] and <strong>five</strong>."),
        ("<|en|>50% off", "<|en|>50% off"),
        ("你好 5 <|endofprompt|>", "你好 5 <|endofprompt|>"),
        ("[AA1] x_y@z.com #3", "[AA1] x underscore y at z dot com number three"),
        ("1" * 40, ", ".join(["one one one one"] * 10)),
        (
            "Order #5 costs $5.99 – 50% off.",
            "Order number five costs five dollars and ninety nine cents – fifty percent off.",
        ),
        ("The ﬁrst x² 12 ٣", "The first x squared twelve three"),
    ],
)
def test_text_in_words(text: str, spoken: str) -> None:
    assert spoken_form(text) == spoken


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("今天有3.5元，2024年1月5日。", "今天有三点五元，二零二四年一月五日。"),
        ("高管[j][ǐ]予好评，", "高管[j][ǐ]予好评。"),
        ("你 好 hello world（真）的，", "你好hello world真的。"),
        ("今天 3 元.", "今天三元。"),
        ("订单#5付了₹500，气温−7度，打5折。", "订单五号付了五百印度卢比，气温负七度，打五折。"),
    ],
)
def test_chinese_text_in_words(text: str, spoken: str) -> None:
    assert spoken_form(text) == spoken


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("text", "chinese", "segments"),
    [
        ("Hello there", False, ["Hello there."]),
        ("One. Two? Three!", False, ["One. Two? Three!"]),
        ('He said "stop!" and left', False, ['He said "stop!" and left.']),
        ("Wait... what?!", False, ["Wait. what?"]),
        ("你好", True, ["你好。"]),
        ("!?..", False, []),
        ("", False, []),
        (" .", False, []),
    ],
)
def test_paragraphs_end_with_one_mark(text: str, chinese: bool, segments: list[str]) -> None:
    assert paragraphs(text, len if chinese else words, chinese) == segments


def test_sentences_join_up_to_the_published_length() -> None:
    sentence = " ".join(["word"] * 25) + "."
    found = paragraphs(" ".join([sentence] * 6), words, False)
    assert [words(piece) for piece in found] == [75, 75]
    assert found[1].startswith(" word")
    stub = paragraphs(" ".join([sentence] * 3) + " The end.", words, False)
    assert [words(piece) for piece in stub] == [77]
    chinese = "今天天气很好我们去公园散步吧好不好呢。" * 9
    assert [len(piece) for piece in paragraphs(chinese, len, True)] == [76, 95]


def test_no_segment_is_longer_than_the_bound_and_nothing_is_lost() -> None:
    for text in ("字" * 500 + "，" + "好" * 100, "x" * 999, "，".join(["好" * 150] * 5), "a\nb " * 300):
        pieces = bounded(text, len)
        assert "".join(pieces) == text and max(map(len, pieces)) <= BOUND
    assert [len(piece) for piece in bounded("，".join(["好" * 150] * 5), len)] == [151, 151, 151, 151, 150]


def test_a_number_is_never_cut() -> None:
    text = " ".join(["Das sind 3.500,75 Euro am 24.12.2024 um 10:30 Uhr"] * 25)
    for pieces in (paragraphs(text, words, False), bounded(text, len, 60)):
        assert len(pieces) > 1
        assert sum(piece.count(number) for piece in pieces for number in ("3.500,75", "24.12.2024", "10:30")) == 75


def test_a_tag_is_never_cut() -> None:
    text = "字" * 155 + "[laughter]" + "字" * 200
    assert bounded(text, len)[1].startswith("[laughter]")


@pytest.mark.parametrize("inside", ["一百三十八亿零一十三万八千元", "13800138000", "3.5GHz", "iPhone", "[laughter]"])
def test_a_number_or_a_latin_word_is_never_cut(inside: str) -> None:
    for before in range(BOUND - len(inside), BOUND + 1):
        pieces = bounded("字" * before + inside + "字" * 200, len)
        assert any(inside in piece for piece in pieces)


def test_punctuation_alone_is_told_from_words() -> None:
    assert is_punctuation("?!… ，€") and not is_punctuation("a!") and not is_punctuation("1")
