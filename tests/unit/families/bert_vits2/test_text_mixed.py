"""Text of several languages: where it is cut, and the ids of the whole."""

from __future__ import annotations

import pytest

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text.frontend import clean, clean_parts, text_ids
from tritone.families.bert_vits2.text.mixed import split_languages
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
