"""Requests to v1, v2 and v3 in every mode, as tensors: on torch and on exported files, whole and streamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.exports import exported
from support.front_helpers import hearing, recorded, recording, text

from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.lm.v2.session import TorchSession
from tritone.lm.description import StageLm
from tritone.lm.genai import genai_llm
from tritone.lm.logits import LogitsLm
from tritone.lm.protocols import Llm
from tritone.stage import Arrays, Call, Family

VERSIONS = (1, 2, 3)
Speaker = tuple[Family, Call, Llm]


SAY, TOLD = {"target_text": text("Hi.")}, {"instruct_text": text("Calm.")}
REFERENCE, SPEAKER = recording(32000), {"speaker": text("a")}
REQUESTS: dict[str, Arrays] = {
    "sft": SAY | SPEAKER,
    "zero_shot": SAY | REFERENCE | {"reference_text": text("A word.")},
    "cross_lingual": SAY | REFERENCE,
    "instruct": SAY | SPEAKER | TOLD,
    "instruct2": SAY | REFERENCE | TOLD,
    "vc": REFERENCE | recording(12000, "source_wav"),
}
"""A request of each mode that does not name it."""


@pytest.fixture(scope="module")
def checkpoints(complete: Callable[[int], Path]) -> dict[int, Path]:
    return {version: complete(version) for version in VERSIONS}


@pytest.fixture(scope="module")
def on_torch(checkpoints: dict[int, Path]) -> dict[int, Speaker]:
    return {version: with_torch(family(folder), version) for version, folder in checkpoints.items()}


@pytest.fixture(scope="module")
def on_onnx(checkpoints: dict[int, Path]) -> dict[int, Speaker]:
    return {version: with_files(folder, version) for version, folder in checkpoints.items()}


def with_torch(model: Family, version: int) -> Speaker:
    """Return the stages in torch; the networks that hear, which have no torch module, answer as recorded."""
    networks, ears = torch_call(model.stages), hearing(recorded(version)["llm_prompt_speech_token"])

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        heard = stage_name in ("speech_tokenizer", "speaker_embedding")
        return (ears if heard else networks)(stage_name, **arrays)

    if isinstance(model.lm, StageLm):
        return model, call, model.lm.open(call)
    assert model.causal_lm
    lm = model.causal_lm.build()
    return model, call, LogitsLm(lambda _: TorchSession(lm))


def with_files(folder: Path, version: int) -> Speaker:
    """Return everything as files: what a server runs."""
    model, build = family(folder), exported(folder, f"tests-tiny-v{version}")
    call = onnx_call(build, model.stages)
    if isinstance(model.lm, StageLm):
        return model, call, model.lm.open(call)
    return model, call, genai_llm(build)


def ensemble(speaker: Speaker, request: Arrays) -> Arrays:
    """Return all outputs of the hosts in order, each fed by name, as the ensemble does; an error is raised."""
    model, call, llm = speaker
    pool = dict(request)
    for host in model.hosts:
        result = host.run(call, llm, [{t.name: pool[t.name] for t in host.inputs if t.name in pool}])[0]
        if isinstance(result, Exception):
            raise result
        assert set(result) == {tensor.name for tensor in host.outputs}
        for tensor in host.outputs:
            assert (result[tensor.name].dtype, result[tensor.name].ndim) == (tensor.dtype, len(tensor.shape))
        pool |= result
    return pool


@pytest.mark.parametrize("engine", ["on_torch", "on_onnx"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_mode_speaks_whole_and_streamed(version: int, engine: str, request: pytest.FixtureRequest) -> None:
    speaker: Speaker = request.getfixturevalue(engine)[version]
    model, call, llm = speaker
    whole = {}
    for mode in model.settings["modes"]:
        pool = ensemble(speaker, REQUESTS[mode])
        whole[mode] = pool["waveform"][0]
        chunks = list(model.synthesize(call, llm, REQUESTS[mode]))
        assert whole[mode].size > 3000 and np.isfinite(whole[mode]).all() and np.abs(whole[mode]).max() > 1e-3
        assert abs(sum(map(len, chunks)) - whole[mode].size) <= 2 * 480
        named = ensemble(speaker, REQUESTS[mode] | {"mode": text(mode)})
        np.testing.assert_array_equal(named["waveform"], pool["waveform"])
    kinds = list(whole.values())
    for index, wave in enumerate(kinds):
        assert all(wave.shape != o.shape or np.abs(wave - o).max() > 1e-3 for o in kinds[:index]), list(whole)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_seed_decides_and_a_batch_is_what_each_is_alone(version: int, on_torch: dict[int, Speaker]) -> None:
    model, call, llm = on_torch[version]
    requests = [REQUESTS["sft"] | {"seed": np.array([[seed]])} for seed in (1, 2)] + [REQUESTS["vc"]]
    alone = [ensemble(on_torch[version], request) for request in requests]
    assert alone[0]["waveform"].shape != alone[1]["waveform"].shape or (
        np.abs(alone[0]["waveform"] - alone[1]["waveform"]).max() > 1e-3
    )
    pools = [dict(request) for request in requests]
    for host in model.hosts:
        rows = [{t.name: pool[t.name] for t in host.inputs if t.name in pool} for pool in pools]
        for pool, result in zip(pools, host.run(call, llm, rows), strict=True):
            pool |= result
    for pool, own in zip(pools, alone, strict=True):
        assert pool["mel"].shape == own["mel"].shape
        assert np.abs(pool["mel"] - own["mel"]).max() < 1e-3
        assert pool["waveform"].shape == own["waveform"].shape


def test_voice_conversion_says_the_source_in_another_voice(on_torch: dict[int, Speaker]) -> None:
    pool = ensemble(on_torch[3], REQUESTS["vc"])
    np.testing.assert_array_equal(pool["speech_token"], recorded(3)["llm_prompt_speech_token"])
    other = ensemble(on_torch[3], {**recording(12000, "source_wav"), **recording(20000), "mode": text("vc")})
    assert np.abs(pool["mel"] - other["mel"]).max() > 1e-3


@pytest.mark.parametrize(
    ("version", "request_", "message"),
    [
        (1, REQUESTS["instruct2"] | {"mode": text("instruct2")}, "mode: CosyVoice 1 has no mode 'instruct2'; .* vc"),
        (2, REQUESTS["instruct"] | {"mode": text("instruct")}, "mode: CosyVoice 2 has no mode 'instruct'; .*instruct2"),
        (3, SAY | {"mode": text("sing")}, "mode: there is no mode 'sing'; CosyVoice 3 has sft, zero_shot"),
        (1, SAY | REFERENCE | TOLD, "reference_wav: mode instruct speaks with a registered speaker"),
        (2, SAY | SPEAKER | TOLD, "speaker: 'a' has an embedding but no recording; mode instruct2 needs"),
        (3, SAY | {"mode": text("zero_shot")} | SPEAKER, "speaker: 'a' has an embedding but no recording"),
        (3, SAY | REFERENCE | {"mode": text("zero_shot")}, "reference_text: is missing; zero_shot needs"),
        (3, SAY | REFERENCE | {"mode": text("sft")}, "reference_wav: mode sft speaks with a registered speaker"),
        (3, SAY | REFERENCE | {"mode": text("instruct2")}, "instruct_text: the text is empty"),
        (3, SAY | SPEAKER | TOLD | {"mode": text("sft")}, "instruct_text: has no effect in mode sft"),
        (2, REQUESTS["vc"] | SAY, "target_text: has no effect in mode vc, which says what source_wav says"),
        (2, REQUESTS["vc"] | {"text_frontend": np.array([[True]])}, "text_frontend: has no effect in mode vc"),
        (2, REFERENCE | {"mode": text("vc")}, "source_wav: is missing; voice conversion needs the recording"),
        (2, REQUESTS["zero_shot"] | recording(12000, "source_wav") | {"mode": text("zero_shot")}, "source_wav: has no"),
        (2, REFERENCE | recording(1000, "source_wav"), "source_wav: too short: 0.06 s at 16000 Hz"),
        (2, REFERENCE | recording(16000 * 31, "source_wav"), "source_wav: too long: 31.00 s"),
        (2, recording(12000, "source_wav"), "speaker: 'a' has an embedding but no recording; mode vc needs"),
    ],
)
def test_what_a_mode_cannot_take_is_refused_by_field(
    version: int, request_: Arrays, message: str, on_torch: dict[int, Speaker]
) -> None:
    with pytest.raises(InvalidRequest, match=f"^INVALID_ARGUMENT: {message}"):
        ensemble(on_torch[version], request_)


def test_a_recording_is_heard_once(on_torch: dict[int, Speaker]) -> None:
    model, call, _ = with_torch(on_torch[3][0], 3)
    heard: list[str] = []

    def counting(stage_name: str, **arrays: np.ndarray) -> Arrays:
        heard.append(stage_name)
        return call(stage_name, **arrays)

    wav = recording(17000)
    for _ in range(3):
        answer = model.hosts[0].run(counting, None, [SAY | wav])[0]
        assert answer["prompt_feat"].shape[2] > 0
    assert heard == ["speech_tokenizer", "speaker_embedding"]
    louder = {**wav, "reference_wav": wav["reference_wav"] * np.float32(0.5)}
    model.hosts[0].run(counting, None, [SAY | louder])
    assert len(heard) == 4
