"""Text of several languages: where it is cut, and the ids of the whole."""

from __future__ import annotations

import pytest

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.frontend import clean, clean_parts, text_ids
from tritone.families.bert_vits2.text.mixed import split_languages, spoken_parts
from tritone.families.bert_vits2.text.symbols import SYMBOLS, to_ids

for package in ("pypinyin", "jieba", "pyopenjtalk", "gruut"):
    pytest.importorskip(package)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("我用iPhone看电影。", [("ZH", "我用"), ("EN", "iPhone"), ("ZH", "看电影。")]),
        ("今日は。東京へ行く。OK! 你好", [("JP", "今日は。東京へ行く。"), ("EN", "OK! "), ("ZH", "你好")]),
        ("我说こんにちは你好", [("ZH", "我说"), ("JP", "こんにちは"), ("ZH", "你好")]),
        ("3个苹果, 2 pears", [("ZH", "3个苹果, 2 "), ("EN", "pears")]),
        ("気分", [("JP", "気分")]),
        ("123", [("EN", "123")]),
        ("[ZH]东京[JP]東京[EN]2", [("ZH", "东京"), ("JP", "東京"), ("EN", "2")]),
        ("[ZH]你好[ZH][EN]hi[EN]", [("ZH", "你好"), ("EN", "hi")]),
        ("hi [JA]東京", [("EN", "hi "), ("JP", "東京")]),
        ("it is [OK] now", [("EN", "it is [OK] now")]),
    ],
)
def test_where_text_is_cut(text: str, parts: list[tuple[str, str]]) -> None:
    assert split_languages(text) == parts


def test_characters_that_may_be_either() -> None:
    assert split_languages("東京") == [("ZH", "東京")]
    assert split_languages("東京", han="JP") == [("JP", "東京")]


def test_a_tag_that_names_no_language() -> None:
    with pytest.raises(InvalidRequest, match="unknown language 'FR'; the languages are ZH, JP, EN"):
        split_languages("[ZH]你好[FR]bonjour")


@pytest.mark.parametrize("text", ["", "?!…", "[ZH] [EN]"])
def test_nothing_to_speak(text: str) -> None:
    with pytest.raises(InvalidRequest, match="nothing to speak in"):
        split_languages(text)


def test_ids_of_mixed_text_are_those_of_its_phones_in_a_row() -> None:
    parts = clean_parts("你好, hello. こんにちは!", "auto")
    assert [part.language for part in parts] == ["ZH", "EN", "JP"]
    ids = text_ids("你好, hello. こんにちは!")
    inner = [phone for part in parts for phone in part.phones[1:-1]]
    assert [SYMBOLS[i] for i in ids.phones[1::2]] == ["_", *inner, "_"]
    assert len(ids.phones) == len(ids.tones) == len(ids.languages) == 2 * (len(inner) + 2) + 1
    assert not ids.phones[::2].any() and not ids.tones[::2].any() and not ids.languages[::2].any()
    assert sorted(set(ids.languages.tolist())) == [0, 1, 2]
    assert ids.phones.tolist() == to_ids(parts).phones.tolist()


def test_one_language_is_one_part() -> None:
    assert clean_parts("你好 世界", "zh") == [clean("你好 世界", "ZH")]
    assert clean("hello", "en").phones == ("_", "hh", "ah", "l", "ow", "_")


def test_unknown_language() -> None:
    with pytest.raises(InvalidRequest, match="unknown language 'KO'"):
        clean("hi", "KO")


@pytest.mark.parametrize(
    ("text", "language", "parts"),
    [
        ("我用iPhone15。", "ZH", [("ZH", "我用"), ("EN", "iPhone"), ("ZH", "十五。")]),
        ("ＣＰＵ温度37℃", "ZH", [("EN", "CPU"), ("ZH", "温度三十七摄氏度")]),
        ("这是ラーメン", "ZH", [("ZH", "这是"), ("JP", "ラーメン")]),
        ("気分の3つ", "JP", [("JP", "気分の三つ")]),
        ("OKを3つ", "JP", [("JP", "OKを三つ")]),
        ("say 你好 3 times", "EN", [("EN", "say "), ("ZH", "你好 "), ("EN", "three times")]),
        ("重10kg，I have 3 cats, 再见3次。", "AUTO",
         [("ZH", "重十千克，"), ("EN", "I have three cats, "), ("ZH", "再见三次。")]),
        ("I have 3 cats. 我有3只猫。猫が3匹", "AUTO",
         [("EN", "I have three cats. "), ("ZH", "我有三只猫。"), ("JP", "猫が三匹")]),
        ("[EN]3 cats[ZH]3只", "AUTO", [("EN", "three cats"), ("ZH", "三只")]),
        ("3只[EN]3 cats", "ZH", [("ZH", "三只"), ("EN", "three cats")]),
        ("2025-11-25 3.5kg", "ZH", [("ZH", "二零二五年十一月二十五日 三点五千克")]),
    ],
)  # fmt: skip
def test_numbers_are_in_the_words_of_their_sentence(text: str, language: str, parts: list[tuple[str, str]]) -> None:
    assert spoken_parts(text, language) == parts


@pytest.mark.parametrize("language", ["ZH", "JP", "EN", "AUTO"])
def test_letters_that_no_language_has_are_refused_by_name(language: str) -> None:
    with pytest.raises(
        InvalidRequest, match="has letters that no language here can say: 'Привет'; the languages are ZH"
    ):
        spoken_parts("Привет, hello你好", language)
