"""Text in plain characters: what a PDF, a phone or a wide keyboard leaves in it changes neither words nor numbers."""

from __future__ import annotations

import unicodedata

import pytest

from tritone.text.reading.plain import plain_text

PLAIN = {
    "numbers": [
        ("Add 1½ cups", "Add 1 1/2 cups"), ("½", "1/2"), ("½½", "1/2 1/2"), ("3¹⁄₂", "3 1/2"), ("7⁄8", "7/8"),
        ("10² m³ 10⁻³ xⁿ", "10² m³ 10⁻³ xⁿ"), ("CO₂ log₂8", "CO2 log2 8"), ("1ˢᵗ 2ⁿᵈ", "1st 2nd"),
        ("①②", "1 2"), ("第⑫章", "第 12 章"), ("❸", "3"), ("⑴", "1"), ("5️⃣3️⃣", " 5  3 "), ("2㍘", "2 0点"),
        ("٣ cats, ٣٫٥ or १२", "3 cats, 3.5 or 12"), ("𝟏𝟐", "12"), ("１，０００．５０", "1,000.50"),
        ("500，100", "500，100"), ("１４：３０", "14:30"),
        ("12\u202f000\u00a0000", "12000000"), ("−7 and －7 and ﹣7", "-7 and -7 and -7"), ("＄５，＃３", "$5，#3"),
    ],
    "letters": [
        ("ﬁrst ofﬁce ﬂoor eﬀect", "first office floor effect"), ("Ｗｏｒｌｄ", "World"),
        ("⼈⼯智能⼤模型", "人工智能大模型"),
        ("⻢⻋⻔", "马车门"), ("ＣＰＵ温度", "CPU温度"), ("㎡ ㎏ ℃ № Ⅳ", "m² kg °C No IV"), ("ﾊﾟﾋﾟ", "パピ"),
        ("e\u0301", "é"),
        ("ㅋㅋ 가", "ㅋㅋ 가"), ("Tritone™", "Tritone"),
    ],
    "marks": [
        ("\ufeffone\u2028two\r\nthree\x85four\rfive", "one\ntwo\nthree\nfour\nfive"),
        ("co\u00adop\u200b \u202ehi\u2066", "coop hi"), ("a\u00a0b\u3000c\x00d\te", "a b c d\te"),
        ("hi 🎉👨‍👩‍👧 ❤️", "hi" + 7 * " "),
        ("你好，世界！（真的）……", "你好，世界！（真的）……"), ("5´ “a” – b — c", "5´ “a” – b — c"),
        ("＜｜endofprompt｜＞ ［laughter］", "＜｜endofprompt｜＞ ［laughter］"),
        ("<|en|> [breath]", "<|en|> [breath]"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
def test_text_in_plain_characters(kind: str) -> None:
    assert [(text, plain_text(text)) for text, _ in PLAIN[kind]] == PLAIN[kind]


CHANGED = [
    character
    for character in map(chr, (*range(0x80, 0xD800), *range(0xE000, 0x10000), *range(0x1D000, 0x1FB00)))
    if unicodedata.decomposition(character) or unicodedata.category(character)[0] in "NSZC"
]
"""Every character that could be replaced."""


def test_a_second_time_changes_nothing_whatever_the_character() -> None:
    once = plain_text("7".join(CHANGED))
    assert plain_text(once) == once and "\ue000" not in once


def test_a_number_never_runs_into_another() -> None:
    found = plain_text("\n".join(f"7{c}7" for c in CHANGED if unicodedata.category(c) in ("No", "So"))).split("\n")
    assert len(found) > 1000
    assert [text for text in found if text[0] != "7" or text[1].isdecimal()] == []
