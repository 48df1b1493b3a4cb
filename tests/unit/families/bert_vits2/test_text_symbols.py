"""Ids of phones: the published inventory, blanks, joins, and what does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tritone.errors import EnvironmentProblem, InvalidRequest
from tritone.families.bert_vits2.text.packages import need
from tritone.families.bert_vits2.text.symbols import (
    LANGUAGES,
    NUM_TONES,
    PHONES,
    SYMBOLS,
    TONE_STARTS,
    Cleaned,
    blanked_word2ph,
    language_of,
    spread,
    to_ids,
)

ROOT = Path(__file__).parents[4]
NI_HAO = Cleaned("你好", "ZH", ("_", "n", "i", "h", "ao", "_"), (0, 2, 2, 3, 3, 0), (1, 2, 2, 1))
HI = Cleaned("hi", "EN", ("_", "hh", "ay", "_"), (0, 3, 2, 0), (1, 2, 1))


def test_inventory_is_the_published_one() -> None:
    published = json.loads((ROOT / "tests/golden/bert_vits2/symbols.json").read_text(encoding="utf-8"))
    assert list(SYMBOLS) == published["symbols"]
    assert {name.lower(): len(phones) for name, phones in PHONES.items()} == {
        "zh": published["counts"]["zh"],
        "jp": published["counts"]["ja"],
        "en": published["counts"]["en"],
    }
    assert published["tone_start"] == TONE_STARTS and published["num_tones"] == NUM_TONES
    assert published["languages"] == LANGUAGES


def test_blanks_stand_around_every_phone_in_all_three() -> None:
    ids = to_ids([HI])
    assert [SYMBOLS[i] for i in ids.phones] == ["_", "_", "_", "hh", "_", "ay", "_", "_", "_"]
    assert ids.tones.tolist() == [0, 8, 0, 11, 0, 10, 0, 8, 0]
    assert ids.languages.tolist() == [0, 2, 0, 2, 0, 2, 0, 2, 0]
    assert ids.phones.dtype == ids.tones.dtype == ids.languages.dtype == np.int64
    assert ids.word2ph == ((3, 4, 2),) and sum(ids.word2ph[0]) == len(ids.phones)


def test_a_word2ph_is_left_as_it_was() -> None:
    word2ph = [1, 2, 0, 1]
    assert blanked_word2ph(word2ph) == blanked_word2ph(word2ph) == (3, 4, 0, 2)
    assert word2ph == [1, 2, 0, 1]


def test_joined_texts_keep_the_outer_pads_alone() -> None:
    ids = to_ids([NI_HAO, HI, NI_HAO])
    spoken = [SYMBOLS[i] for i in ids.phones]
    assert spoken[1::2] == ["_", "n", "i", "h", "ao", "hh", "ay", "n", "i", "h", "ao", "_"]
    assert set(spoken[::2]) == {"_"}
    assert ids.languages[1::2].tolist() == [0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0]
    assert ids.tones[1::2].tolist() == [0, 2, 2, 3, 3, 11, 10, 2, 2, 3, 3, 0]


def test_spread_is_even() -> None:
    assert spread(5, 2) == [3, 2] and spread(2, 3) == [1, 1, 0] and spread(0, 2) == [0, 0]


@pytest.mark.parametrize(("name", "found"), [("zh", "ZH"), (" ja ", "JP"), ("JP", "JP"), ("En", "EN"), ("cn", "ZH")])
def test_names_of_languages(name: str, found: str) -> None:
    assert language_of(name) == found


def test_unknown_language_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="unknown language 'fr'; the languages are ZH, JP, EN"):
        language_of("fr")


def test_mismatched_word2ph() -> None:
    with pytest.raises(InvalidRequest, match="4 phones, 4 tones and a word2ph that sums to 5; the three must be equal"):
        Cleaned("hi", "EN", HI.phones, HI.tones, (1, 3, 1))


def test_unknown_phone_and_tone() -> None:
    with pytest.raises(InvalidRequest, match="unknown phone 'ö' in 'hi'; the 112 known phones are _ "):
        to_ids([Cleaned("hi", "EN", ("_", "ö", "_"), (0, 0, 0), (1, 1, 1))])
    with pytest.raises(InvalidRequest, match=r"unknown tone 3 in .*; the tones of JP are 0 to 1"):
        to_ids([Cleaned("あ", "JP", ("_", "a", "_"), (0, 3, 0), (1, 1, 1))])


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(EnvironmentProblem, match=r"package pypinyin.*pip install 'tritone\[bert-vits2\]'"):
        need("pypinyin")


def test_importing_the_front_end_imports_nothing_heavy_and_says_nothing() -> None:
    heavy = ("torch", "transformers", "pypinyin", "jieba", "pyopenjtalk", "gruut", "wetext", "cn2an", "num2words")
    modules = "tritone.families.bert_vits2.text.frontend, tritone.families.bert_vits2.text.bert"
    code = f"import sys, {modules}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]" and done.stderr == ""
