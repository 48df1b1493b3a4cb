"""Dialogue text: cleaned as published, checked, and put into the prompt."""

from __future__ import annotations

import re

import pytest
from support.moss_helpers import described

from tritone.errors import ConfigError, InvalidRequest
from tritone.families.moss_ttsd.dialogue import check_dialogue, normalize, prompt_text


@pytest.mark.parametrize("case", described()["normalized"], ids=lambda case: case["text"][:12] or "empty")
def test_texts_are_cleaned_as_published(case: dict[str, str]) -> None:
    assert normalize(case["text"], "0.7") == case["v07"]
    assert normalize(case["text"], "0.5") == case["v05"]


def test_an_unknown_release_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"text of release '1.0' is unknown; the supported releases are 0.7 and 0.5"):
        normalize("a", "1.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[S1]a[S3]b[S12]c", r"names \[S12\], \[S3\]; the models know \[S1\] and \[S2\]"),
        ("", "has nothing to say"),
        ("[S1] ... [S2]", "has nothing to say"),
    ],
)
def test_dialogues_nobody_can_speak_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"target_text: {message}"):
        check_dialogue(text)


def test_text_without_a_tag_may_be_said() -> None:
    check_dialogue("你好")


def test_the_prompt_has_the_trained_markers() -> None:
    prompt = prompt_text("[S1]Hello. [S2]Hi.")
    assert prompt.startswith("<|begin_of_style|>You are a speech synthesizer that generates natural,")
    assert prompt.endswith(
        "dialogue text.<|end_of_style|>\n<|begin_of_text|><speaker1>Hello. <speaker2>Hi.<|end_of_text|>\n"
        "<|begin_of_speech|>"
    )


@pytest.mark.parametrize(
    "written",
    [
        "[s1]Hello. [s2]Hi.", "［S1］Hello. ［S2］Hi.", "【S1】Hello. 【S2】Hi.", "S1: Hello. S2: Hi.",
        "[S 1]Hello. [S 2]Hi.", "(S1)Hello. (S2)Hi.", "（Ｓ１）Hello. （Ｓ２）Hi.",
        "Speaker 1: Hello. Speaker 2: Hi.", "SPEAKER_01: Hello.\nSPEAKER_02: Hi.", "[1]Hello. [2]Hi.",
        "[S1]: Hello. [S2]: Hi.", "[Speaker 1]Hello. [speaker2]Hi.", "s1：Hello. s2：Hi.",
        "<speaker1>Hello. <speaker2>Hi.", "说话人1：Hello. 说话人2：Hi.", "{S1}Hello. <S2>Hi.",
        "Speaker One: Hello. speaker two: Hi.", "\ufeff[S\u200b1]Hello. [S２]Hi.",
    ],
)  # fmt: skip
def test_tags_in_other_spellings_are_the_speakers(written: str) -> None:
    said = [piece.strip() for piece in re.split(r"<speaker([12])>", prompt_text(check_dialogue(written)))[1:]]
    assert [said[0], said[1], said[2]] == ["1", "Hello.", "2"] and said[3].startswith("Hi.<|end_of_text|>")


@pytest.mark.parametrize("written", ["【S3】你好。", "S3: Hi.", "[s12]Hi.", "(S0)Hi.", "Speaker 3: Hi.", "[3]Hi."])
def test_other_spellings_of_unknown_speakers_are_refused(written: str) -> None:
    with pytest.raises(InvalidRequest, match=r"names \[S\d+\]; the models know \[S1\] and \[S2\]"):
        check_dialogue(written)


def test_words_that_look_like_tags_stay() -> None:
    for text in ("[S1]See table (S1) of [laugh] it, at 5:30.", "[S1]Bus1: no. The loudspeaker 1 is on."):
        assert check_dialogue(text) == text
