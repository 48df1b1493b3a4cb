"""English: the dictionary, words it lacks, numbers, and shares of subword tokens."""

from __future__ import annotations

import pytest

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.text import english
from tritone.families.bert_vits2.text.english import word_phones
from tritone.families.bert_vits2.text.symbols import PHONES, to_ids
from tritone.text.phonemes import PHONES as IPA

pytest.importorskip("gruut")


def spoken(text: str) -> str:
    cleaned = english.clean(text)
    return " ".join(f"{p}{t}" for p, t in zip(cleaned.phones[1:-1], cleaned.tones[1:-1], strict=True))


def test_hello_world() -> None:
    cleaned = english.clean("Hello, world.")
    assert spoken("Hello, world.") == "hh3 ah1 l3 ow2 ,0 w3 er2 l3 d3 .0"
    assert cleaned.word2ph == (1, 4, 1, 4, 1, 1)


def test_v_is_written_as_a_capital() -> None:
    assert spoken("vivid") == "V3 ih2 V3 ah1 d3"


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("GPU", "jh iy p iy y uw"), ("GPUs", "jh iy p iy y uw z"), ("NASA's", "n ae s ah z"), ("don't", "d ow n t"),
        ("blorfing", "b l ao r f ih ng"), ("peach's", "p iy ch ih z"), ("kit's", "k ih t s"),
    ],
)  # fmt: skip
def test_words_the_dictionary_has_or_lacks(word: str, phones: str) -> None:
    assert " ".join(word_phones(word)[0]) == phones


def test_dictionary_and_model_speak_the_known_phones() -> None:
    found = {phone for line in english._dictionary().values() for phone in english._arpabet(line.split())[0]}
    assert found == PHONES["EN"]
    assert {english._ARPABET[sound.lstrip("ˈˌ")] for sound in IPA} == PHONES["EN"]
    assert english._ipa_tone("ˈɔɪ") == 2 and english._ipa_tone("ˌæ") == 3 and english._ipa_tone("ə") == 1
    assert english._ipa_tone("ɹ") == 3


def test_normal_text() -> None:
    assert english.normalize("It's café & “dogs”…  ok？你好") == "It's cafe and 'dogs'… ok?"
    assert english.normalize("21").replace("-", " ") == "twenty one"
    assert english.normalize("one\ntwo\n") == "one. two"


def test_phones_of_words_over_their_tokens() -> None:
    def tokenize(chunk: str) -> list[str]:
        return {"Hello,": ["▁Hel", "lo", ","], "x-ray": ["▁x", "-", "ray"], "ok…": ["▁", "o", "k", "..."]}[chunk]

    assert english.clean("Hello,", tokenize).word2ph == (1, 2, 2, 1, 1)
    assert english.clean("x-ray", tokenize).word2ph == (1, 3, 1, 2, 1)
    assert english.clean("ok…", tokenize).word2ph == (1, 0, 2, 1, 1, 1)


def test_a_mark_inside_a_token_stays_with_it() -> None:
    cleaned = english.clean("Hello,", lambda chunk: ["▁Hello,"])
    assert cleaned.word2ph == (1, 5, 1)


def test_tokens_that_do_not_spell_the_word() -> None:
    cleaned = english.clean("world.", lambda chunk: ["[UNK]"])
    assert cleaned.word2ph == (1, 5, 1) and sum(cleaned.word2ph) == len(to_ids([cleaned]).phones) // 2


@pytest.mark.parametrize("text", ["", "...", "你好"])
def test_text_without_english(text: str) -> None:
    with pytest.raises(InvalidRequest, match="has a known sound in EN"):
        english.clean(text)
