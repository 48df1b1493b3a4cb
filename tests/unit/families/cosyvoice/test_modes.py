"""Each mode fills the networks' inputs as the published front end does, in every version that has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.front_helpers import (
    CASES,
    CONFIGS,
    LEAD,
    SYSTEM,
    TEXT,
    TRANSCRIPT,
    hearing,
    prompt,
    published,
    recorded,
    write_whisper_vocabulary,
)  # fmt: skip

from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.cosyvoice.checkpoint.folder import BACKBONE
from tritone.families.cosyvoice.lm.special_tokens import BASE_SIZE, END_OF_PROMPT, V3
from tritone.families.cosyvoice.speak.modes import MODES, find_mode, instruction, mode_inputs, usual_mode
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.versions import VERSIONS
from tritone.families.cosyvoice.voices.reference import reference_voice
from tritone.families.cosyvoice.voices.voice import Voice


@pytest.fixture(scope="module")
def fronts(tiny_v2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, TextFrontend]:
    v1 = tmp_path_factory.mktemp("v1")
    write_whisper_vocabulary(v1)
    return {v: TextFrontend(v1 if v == 1 else tiny_v2, CONFIGS[v]) for v in (1, 2, 3)}


@pytest.fixture(scope="module")
def voices() -> dict[int, Voice]:
    return {v: reference_voice(hearing(recorded(v)["llm_prompt_speech_token"]), *prompt(), CONFIGS[v]) for v in CONFIGS}


@pytest.mark.parametrize(("version", "name"), CASES)
def test_the_flow_gets_what_was_recorded(
    version: int, name: str, fronts: dict[int, TextFrontend], voices: dict[int, Voice]
) -> None:
    golden, inputs = recorded(version), published(version, name, fronts[version], voices[version])
    voice = inputs.voice
    assert voice.speech_token.tolist() == golden[f"{name}_prompt_token"][0].tolist()
    frames = int(golden[f"{name}_frames"][0])
    assert voice.mel.shape == (frames, 80)
    np.testing.assert_allclose(np.exp(voice.mel), np.exp(golden["prompt_speech_feat"][0, :frames]), rtol=0, atol=1e-4)
    embedding = golden[f"{name}_embedding"][0]
    assert np.abs(voice.embedding - embedding).max() <= 1e-4 * np.abs(embedding).max()
    if name == "vc":
        assert inputs.segments == [] and inputs.source.tolist() == golden["vc_source"][0].tolist()
    else:
        assert not len(inputs.source)


@pytest.mark.parametrize(("version", "name"), [case for case in CASES if case[1] != "vc"])
def test_the_language_model_gets_the_published_sequence(
    version: int, name: str, fronts: dict[int, TextFrontend], voices: dict[int, Voice]
) -> None:
    golden, front = recorded(version), fronts[version]
    inputs = published(version, name, front, voices[version])
    encode, lead = front.tokenizer.encode, LEAD if version == 3 else ""
    before = {
        "sft": lead,
        "cross_lingual": lead,
        "zero_shot": lead + TRANSCRIPT,
        "instruct": "A calm speaker." + END_OF_PROMPT,
        "instruct2": f"{SYSTEM} Speak softly.{END_OF_PROMPT}",
    }[name]
    assert inputs.voice.prompt_ids.tolist() == encode(before)
    assert inputs.segments == [encode(TEXT)] == [golden["text"][0].tolist()]
    heard = inputs.voice.llm_embedding
    assert heard is not None and len(heard) == (0 if name == "instruct" else 192)
    spoken = golden["llm_prompt_speech_token"][0].tolist() if name == "zero_shot" else []
    assert inputs.voice.llm_speech_token.tolist() == spoken
    if name == "zero_shot":
        assert inputs.voice.prompt_ids.tolist() == golden["prompt_text"][0].tolist()


@pytest.mark.parametrize("name", ["sft", "zero_shot", "cross_lingual", "instruct2"])
def test_v3_is_given_the_prompt_it_needs(name: str, fronts: dict[int, TextFrontend], voices: dict[int, Voice]) -> None:
    """A request without any `<|endofprompt|>` gives the same inputs."""
    wanted = published(3, name, fronts[3], voices[3])
    speaker = Voice("spk_a", recorded(3)["spk_a"][0])
    found = mode_inputs(
        MODES[name],
        fronts[3],
        speaker if name == "sft" else voices[3],
        text=TEXT,
        transcript=TRANSCRIPT if name == "zero_shot" else "",
        instruct_text="Speak softly." if name == "instruct2" else "",
    )
    assert found.voice.prompt_ids.tolist() == wanted.voice.prompt_ids.tolist()
    assert found.segments == wanted.segments and BASE_SIZE in found.voice.prompt_ids


def test_a_stored_v3_voice_without_the_marker_is_given_it(fronts: dict[int, TextFrontend]) -> None:
    encode = fronts[3].tokenizer.encode
    stored = Voice("bob", np.zeros(192, np.float32), prompt_ids=np.array(encode("hi")), speech_token=np.arange(4))
    found = mode_inputs(MODES["zero_shot"], fronts[3], stored, text=TEXT).voice.prompt_ids.tolist()
    assert found == encode(LEAD + "hi")
    marked = replace(stored, prompt_ids=np.array(found))
    assert mode_inputs(MODES["zero_shot"], fronts[3], marked, text=TEXT).voice.prompt_ids.tolist() == found
    own = mode_inputs(MODES["zero_shot"], fronts[3], stored, text=f"Sing.{END_OF_PROMPT}{TEXT}")
    assert own.voice.prompt_ids.tolist() == encode(f"Sing.{END_OF_PROMPT}hi") and own.segments == [encode(TEXT)]


def test_long_text_is_divided_also_behind_a_prompt(fronts: dict[int, TextFrontend], voices: dict[int, Voice]) -> None:
    long = "[breath]" + "字" * 300
    for text in (long, LEAD + long):
        inputs = mode_inputs(MODES["cross_lingual"], fronts[3], voices[3], text=text, normalize=False)
        assert len(inputs.segments) == 2 and inputs.voice.prompt_ids.tolist() == fronts[3].tokenizer.encode(LEAD)
        assert [index for segment in inputs.segments for index in segment] == fronts[3].tokenizer.encode(long)


def test_a_cross_lingual_tag_of_v1_is_kept(fronts: dict[int, TextFrontend], voices: dict[int, Voice]) -> None:
    inputs = mode_inputs(MODES["cross_lingual"], fronts[1], voices[1], text="<|en|>Hello there.")
    assert inputs.segments[0][0] == 50259 and not len(inputs.voice.prompt_ids)


def test_the_modes_of_each_version_are_listed() -> None:
    for version, name, others in (
        (2, "instruct", "CosyVoice 2 has sft, zero_shot, cross_lingual, instruct2, vc"),
        (1, "instruct2", "CosyVoice 1 has sft, zero_shot, cross_lingual, instruct, vc"),
    ):
        with pytest.raises(InvalidRequest, match=f"mode: CosyVoice {version} has no mode '{name}'; {others}"):
            find_mode(name, VERSIONS[version])
    with pytest.raises(InvalidRequest, match="there is no mode 'sing'; CosyVoice 3 has sft"):
        find_mode("sing", VERSIONS[3])


def test_the_usual_mode_is_told_by_what_a_request_brings() -> None:
    plain = Voice("a", np.zeros(192, np.float32))
    heard = replace(plain, speech_token=np.arange(3), trained=False)
    first, second, third = VERSIONS.values()
    assert usual_mode(second, plain, "", "") == "sft" and usual_mode(second, heard, "", "") == "cross_lingual"
    assert usual_mode(second, heard, "words", "") == "zero_shot" and usual_mode(second, heard, "", "", True) == "vc"
    assert (
        usual_mode(first, plain, "", "softly") == "instruct" and usual_mode(third, heard, "", "softly") == "instruct2"
    )
    assert usual_mode(second, replace(plain, prompt_text="<|x|><|endofprompt|>"), "", "") == "zero_shot"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sft", {"trained": False}, "speaker: 'reference' was stored from a recording and has no embedding to be used"),
        ("zero_shot", {"speech_token": np.zeros(0)}, "speaker: 'reference' has an embedding but no recording"),
        ("cross_lingual", {"speech_token": np.zeros(0)}, "mode cross_lingual needs reference_wav or a speaker"),
        ("zero_shot", {}, "reference_text: is missing; zero_shot needs what reference_wav says"),
        ("instruct2", {}, "instruct_text: is missing; mode instruct2 needs a description of the manner of speaking"),
        ("vc", {}, "source_wav: is missing; voice conversion needs the recording to convert"),
    ],
)
def test_what_a_mode_lacks_is_named(
    name: str, changes: dict[str, object], message: str, fronts: dict[int, TextFrontend], voices: dict[int, Voice]
) -> None:
    voice = replace(voices[2], **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=message):
        mode_inputs(MODES[name], fronts[2], voice, text=TEXT)


def test_a_prompt_alone_is_nothing_to_speak(fronts: dict[int, TextFrontend], voices: dict[int, Voice]) -> None:
    for text in (LEAD, LEAD + "  ", "?!"):
        with pytest.raises(InvalidRequest, match="target_text: has nothing to speak"):
            mode_inputs(MODES["cross_lingual"], fronts[3], voices[3], text=text)


def test_instructions_are_closed_once() -> None:
    assert instruction(" Softly. ", "") == instruction(f"Softly.{END_OF_PROMPT}", "") == f"Softly.{END_OF_PROMPT}"
    assert (
        instruction("Softly.", SYSTEM) == f"{SYSTEM} Softly.{END_OF_PROMPT}" == instruction(f"{SYSTEM} Softly.", SYSTEM)
    )
    assert instruction("Softly.<endofprompt>", "") == "Softly.<endofprompt>"


def test_special_ids_of_v3_are_the_published_ones(fronts: dict[int, TextFrontend]) -> None:
    tokenizer = fronts[3].tokenizer
    expected = {END_OF_PROMPT: 151646, "[mn]": 151662, "<|endofsystem|>": 151663, "[AA]": 151664, "[ǜ]": 151923}
    assert {token: tokenizer.token_to_id(token) for token in expected} == expected
    assert len(tokenizer) == 151924 and len(set(V3)) == 280
    assert tokenizer.encode("报[j][ǐ]予") == [*tokenizer.encode("报"), *map(tokenizer.token_to_id, ("[j]", "[ǐ]")),
                                           *tokenizer.encode("予")]  # fmt: skip


def test_text_that_arrives_in_parts_is_left_as_it_is(fronts: dict[int, TextFrontend]) -> None:
    encode = fronts[2].tokenizer.encode
    assert list(fronts[2].stream(iter(["It is 5", "0%"]))) == encode("It is 5") + encode("0%")


def test_a_base_of_another_size_is_refused(tiny_v2: Path, tmp_path: Path) -> None:
    (tmp_path / BACKBONE).mkdir()
    for file in (tiny_v2 / BACKBONE).iterdir():
        (tmp_path / BACKBONE / file.name).write_bytes(file.read_bytes())
    path = tmp_path / BACKBONE / "tokenizer_config.json"
    end, more = '"151645": {', '"151646": {"content": "<|object_ref_start|>", "special": true}, "151645": {'
    path.write_text(path.read_text().replace(end, more))
    with pytest.raises(CheckpointError, match=r"gives <\|endofprompt\|> the id 151647 and has 151664 entries"):
        _ = TextFrontend(tmp_path, CONFIGS[2]).tokenizer
