"""Japanese: phones, pitch accent, shares of characters, numbers."""

from __future__ import annotations

import pytest

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text import japanese
from tritone.families.bert_vits2.text.japanese import _tone
from tritone.families.bert_vits2.text.symbols import PHONES, PUNCTUATION, to_ids

pytest.importorskip("pyopenjtalk")


def spoken(text: str) -> tuple[str, str]:
    """Phones and tones without the pads."""
    cleaned = japanese.clean(text)
    assert len(cleaned.word2ph) == len(cleaned.text) + 2
    return " ".join(cleaned.phones[1:-1]), "".join(map(str, cleaned.tones[1:-1]))


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("東京", "t o o ky o o"), ("こんにちは", "k o N n i ch i w a"), ("がっこう", "g a q k o o"),
        ("です", "d e s u"), ("ラーメン", "r a a m e N"), ("ヴァイオリン", "b a i o r i N"),
        ("つづく", "ts u z u k u"), ("ふじさん", "f u j i s a N"), ("ティッシュ", "t i q sh u"),
        ("ひゃく", "hy a k u"), ("クヮ", "k w a"), ("すごーい", "s u g o o i"),
    ],
)  # fmt: skip
def test_phones(text: str, phones: str) -> None:
    assert spoken(text)[0] == phones


@pytest.mark.parametrize(
    ("text", "tones"),
    [
        ("箸", "1100"),  # HL
        ("橋を", "00110"),  # LH-L
        ("端を", "00111"),  # LH-H
        ("東京", "001111"),
        ("世界", "11000"),
        ("こころ", "001100"),
    ],
)
def test_accent(text: str, tones: str) -> None:
    assert spoken(text)[1] == tones


def test_pitch_of_moras() -> None:
    def phrase(accent: int, moras: int) -> list[int]:
        return [_tone(position, position - accent, moras) for position in range(1, moras + 1)]

    assert phrase(1, 3) == [1, 0, 0] and phrase(2, 3) == [0, 1, 0] and phrase(3, 3) == [0, 1, 1]
    assert phrase(1, 1) == [0]


def test_a_words_phones_are_spread_over_its_characters() -> None:
    cleaned = japanese.clean("東京、行く")
    assert cleaned.text == "東京,行く"
    assert cleaned.word2ph == (1, 3, 3, 1, 2, 1, 1)
    assert cleaned.phones[7] == "," and cleaned.tones[7] == 0


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2023年に３本", "二千二十三年に三本"), ("1,000円", "千円"), ("$10.50", "十点五〇ドル"), ("007", "〇〇七"),
        ("50%", "五十パーセント"), ("「はい」！？…", "'はい'!?…"), ("ｱｲｳ ＡＢ", "アイウAB"), ("9" * 17, "九" * 17),
    ],
)  # fmt: skip
def test_normal_text(text: str, normal: str) -> None:
    assert japanese.normalize(text) == normal


def test_counters_change_their_sound() -> None:
    assert spoken("3本")[0] == "s a N b o N"


def test_every_phone_has_an_id() -> None:
    text = (
        "あいうえおかきくけこがぎぐげごさしすせそざじずぜぞたちつてとだぢづでどなにぬねのはひふへほばびぶべぼぱぴぷぺぽ"
    )
    text += "まみむめもやゆよらりるれろわをん。きゃぎゃしゃじゃちゃにゃひゃびゃぴゃみゃりゃ。ファティデュテュウィヴォ"
    cleaned = japanese.clean(text)
    to_ids([cleaned])
    assert set(cleaned.phones) - {"_", *PUNCTUATION} <= PHONES["JP"]
    assert len(set(cleaned.phones) & PHONES["JP"]) >= 34


def test_rewritten_characters_keep_the_count() -> None:
    cleaned = japanese.clean("热い人々ヒょ")
    assert len(cleaned.word2ph) == len(cleaned.text) + 2


@pytest.mark.parametrize("text", ["", "、。", "ーー", "привет"])
def test_text_without_japanese(text: str) -> None:
    with pytest.raises(InvalidRequest, match="has a known sound in JP"):
        japanese.clean(text)
