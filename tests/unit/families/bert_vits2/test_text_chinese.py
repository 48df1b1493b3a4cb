"""Mandarin: spelling of every syllable, tones in connected speech, numbers, and what cannot be read."""

from __future__ import annotations

import pytest

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text import chinese
from tritone.families.bert_vits2.text.chinese import syllable_phones
from tritone.families.bert_vits2.text.symbols import PHONES, PUNCTUATION, to_ids

pypinyin = pytest.importorskip("pypinyin")
pytest.importorskip("jieba")


def spelled(text: str) -> str:
    """Syllables with tones: "n i2 h ao3" is ni2 hao3."""
    cleaned = chinese.clean(text)
    assert len(cleaned.word2ph) == len(cleaned.text) + 2
    out, start = [], 1
    for count in cleaned.word2ph[1:-1]:
        assert len(set(cleaned.tones[start : start + count])) == 1
        out.append(" ".join(cleaned.phones[start : start + count]) + str(cleaned.tones[start]))
        start += count
    return ", ".join(out)


def tones(text: str) -> str:
    cleaned = chinese.clean(text)
    starts = [sum(cleaned.word2ph[:i]) for i in range(1, len(cleaned.word2ph) - 1)]
    return "".join(str(cleaned.tones[start]) for start in starts if cleaned.phones[start] not in PUNCTUATION)


@pytest.mark.parametrize(
    ("syllable", "phones"),
    [
        ("zhi", "zh ir"), ("ri", "r ir"), ("zi", "z i0"), ("si", "s i0"), ("ji", "j i"), ("yi", "y i"), ("ye", "y E"),
        ("yan", "y En"), ("yang", "y ang"), ("you", "y ou"), ("yong", "y ong"), ("yu", "y v"), ("yue", "y ve"),
        ("yuan", "y van"), ("yun", "y vn"), ("ju", "j v"), ("quan", "q van"), ("xue", "x ve"), ("lv", "l v"),
        ("nve", "n ve"), ("nu", "n u"), ("wu", "w u"), ("wo", "w o"), ("weng", "w eng"), ("a", "AA a"), ("e", "EE e"),
        ("er", "EE er"), ("ou", "OO ou"), ("ang", "AA ang"), ("bian", "b ian"), ("xiong", "x iong"), ("gui", "g ui"),
        ("liu", "l iu"), ("dun", "d un"), ("shuang", "sh uang"), ("n", "EE en"),
    ],
)  # fmt: skip
def test_syllables(syllable: str, phones: str) -> None:
    assert " ".join(syllable_phones(syllable)) == phones


def test_every_reading_has_symbols_and_every_symbol_a_reading() -> None:
    every = [chr(code) for code in range(0x4E00, 0x9FA6)]
    readings = pypinyin.pinyin(every, style=pypinyin.Style.NORMAL, heteronym=True, v_to_u=False)
    found = {
        phone
        for options in readings
        for syllable in options
        if syllable.isascii()
        for phone in syllable_phones(syllable)
    }
    assert found == PHONES["ZH"]


def test_what_is_no_syllable() -> None:
    with pytest.raises(KeyError, match="bix"):
        syllable_phones("bix")


def test_hello() -> None:
    assert spelled("你好，世界！") == "n i2, h ao3, ,0, sh ir4, j ie4, !0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一个", "25"), ("一定", "24"), ("一起", "43"), ("一天", "41"), ("看一看", "454"), ("第一名", "412"),
        ("十一", "21"), ("统一", "31"), ("一百一十", "4312"), ("一月", "14"), ("五月一日", "3414"),
        ("不是", "24"), ("不好", "43"), ("不来", "42"), ("去不去", "454"), ("看不懂", "453"), ("不一样", "424"),
    ],
)  # fmt: skip
def test_yi_and_bu(text: str, expected: str) -> None:
    assert tones(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我很好", "223"), ("纸老虎", "323"), ("展览馆", "223"), ("蒙古包", "231"), ("老李买好酒", "23223"),
        ("手表", "23"), ("雨伞", "23"), ("我想想", "325"), ("总理", "23"), ("我们走吧", "3535"),
    ],
)  # fmt: skip
def test_third_tones_in_a_row(text: str, expected: str) -> None:
    assert tones(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("朋友", "25"), ("学生", "25"), ("妈妈", "15"), ("姐姐", "35"), ("孩子们", "255"), ("桌子上", "155"),
        ("起来", "35"), ("好吗", "35"), ("说过的话", "1554"), ("慢慢地", "445"), ("跑得快", "354"),
        ("三个苹果", "1523"),
        ("早上好", "353"), ("以上", "34"), ("东西", "15"), ("试试看", "454"), ("不知道", "415"),
    ],
)  # fmt: skip
def test_neutral_tones(text: str, expected: str) -> None:
    assert tones(text) == expected


def test_numbers_are_read() -> None:
    assert chinese.normalize("今天是2023年5月1日") == "今天是二零二三年五月一日"
    assert chinese.normalize("2023") == "二千零二十三"
    assert chinese.normalize("12.5") == "十二点五"
    assert chinese.normalize("9" * 40) == "九" * 40


def test_numbers_among_other_words_are_read() -> None:
    assert chinese.normalize("一共3.5元，打9折") == "一共三点五元,打九折"


def test_marks_and_letters() -> None:
    assert chinese.normalize("他说：“好……”（OK）～\n再见；") == "他说,'好…'-.再见,"


def test_polyphones_follow_their_words() -> None:
    assert spelled("银行") == "y in2, h ang2" and spelled("行走") == "x ing2, z ou3"


def test_ids_exist_for_all_of_it() -> None:
    cleaned = chinese.clean("床前明月光，疑是地上霜。")
    assert len(to_ids([cleaned]).phones) == 2 * len(cleaned.phones) + 1


@pytest.mark.parametrize("text", ["hello", "！？", "", "こん"])
def test_text_without_chinese(text: str) -> None:
    with pytest.raises(InvalidRequest, match="has a known sound in ZH"):
        chinese.clean(text)


def test_a_character_without_reading() -> None:
    with pytest.raises(InvalidRequest, match=r"has '㒱' in .*, whose reading is unknown"):
        chinese.clean("好㒱")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("我用iPhone打给Tom", "'iPhone', 'Tom'"),
        ("这是あの人", "'あの'"),
        ("ＣＰＵ温度", "'CPU'"),
        ("说Привет", "'Привет'"),
    ],
)
def test_words_that_chinese_cannot_say_are_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"has {named}, which ZH cannot say; write it in letters of ZH"):
        chinese.clean(text)
