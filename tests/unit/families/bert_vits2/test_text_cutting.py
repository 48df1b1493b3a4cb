"""Segments of requests: cut after numbers are in words, between words, in every language."""

from __future__ import annotations

import pytest

from tritone.families.bert_vits2.request import segments
from tritone.families.bert_vits2.text.cutting import cutter, joined
from tritone.text.split import SEGMENT_LENGTH

for package in ("pypinyin", "jieba", "pyopenjtalk", "gruut"):
    pytest.importorskip(package)

FILL = {
    "ZH": "我们的工作人员正在努力地为大家准备今天晚上的演出节目",
    "JP": "私たちは明日の朝早く東京駅から新幹線に乗って大阪へ行きます",
    "EN": "we are getting everything ready for the show of this evening ",
}
NUMBERS = {
    "ZH": [
        ("13800138000", "幺三八零零幺三八零零零"), ("13801138000元", "一百三十八亿零一百一十三万八千元"),
        ("1318公里", "一千三百一十八公里"),
    ],
    "JP": [
        ("12345678円", "千二百三十四万五千六百七十八円"), ("14時30分", "十四時三十分"), ("3.5kg", "三点五キログラム"),
    ],
    "EN": [("1234567 dollars", "one million two hundred thirty four thousand five hundred and sixty seven dollars")],
}  # fmt: skip


def said(text: str, language: str) -> list[str]:
    return ["".join(part for _, part in segment) for segment in segments(text, language)]


@pytest.mark.parametrize(("language", "written", "spoken"), [(k, *pair) for k in ("ZH", "JP") for pair in NUMBERS[k]])
@pytest.mark.parametrize("as_language", ["", "AUTO"])
def test_a_number_is_in_words_and_whole_wherever_it_stands(
    language: str, written: str, spoken: str, as_language: str
) -> None:
    fill = FILL[language] * 3
    for before in (0, 25, 45, 60, 70, 75):
        found = said(f"{fill[:before]}{written}{fill}", as_language or language)
        assert any(spoken in segment for segment in found), found
        assert max(map(len, found)) <= SEGMENT_LENGTH


def test_english_numbers_are_in_words_before_a_text_is_cut() -> None:
    written, spoken = NUMBERS["EN"][0]
    for before in range(8):
        found = said(f"{'word ' * before}{written} {FILL['EN']}", "EN")
        assert spoken in " ".join(found) and max(map(len, found)) <= SEGMENT_LENGTH


def test_texts_without_spaces_are_cut_between_words() -> None:
    for language in ("ZH", "JP"):
        text = FILL[language] * 5
        found = said(text, language)
        words = cutter(language)
        assert words is not None and "".join(found) == text and len(found) > 1
        borders = {sum(map(len, words(text)[:count])) for count in range(1, len(words(text)))}
        assert {sum(map(len, found[:count])) for count in range(1, len(found))} <= borders
    assert cutter("EN") is None


def test_numbers_units_and_marks_stay_with_what_is_before_them() -> None:
    assert joined(["一百", "三十八亿", "零一", "十三万", "元", "的", "票", ","]) == [
        "一百三十八亿零一十三万元",
        "的",
        "票,",
    ]
    assert joined(["用", "A", "四", "纸", "打印"]) == ["用", "A四纸", "打印"]


def test_a_text_of_another_language_is_cut_by_its_own_words() -> None:
    found = segments("我用iPhone15打电话给Tom，重10kg。" + FILL["ZH"] * 3, "ZH")
    assert [name for name, _ in found[0]] == ["ZH", "EN", "ZH", "EN", "ZH"]
    assert ("ZH", "十五打电话给") in found[0] and ("EN", "iPhone") in found[0]
