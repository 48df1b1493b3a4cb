"""load_model: one waveform whatever the engine, requests as plain Python values, and refusals that say what works."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.export_helpers import toy_family

from tritone import load
from tritone.build import layout, manifest
from tritone.build.hashes import Hashes
from tritone.build.identity import identities
from tritone.build.layout import stage_key, torchscript_key
from tritone.build.manifest import Entry, record
from tritone.build.targets import Selection
from tritone.catalog import open_family
from tritone.engines.open import open_call, open_llm
from tritone.engines.torch import TorchCall, torch_call
from tritone.engines.torch_run import TorchRun
from tritone.errors import ArtifactError, CheckpointError, ConfigError, EnvironmentProblem, InvalidRequest
from tritone.export import to_onnx, to_torchscript
from tritone.families.cosyvoice.lm.v2.session import TorchSessions
from tritone.lm.description import StageLm
from tritone.lm.genai import GenaiSessions
from tritone.load import Model, load_model
from tritone.stage import Arrays, Family, Tensor

SAID = {"text": "hi", "speaker": "a", "seed": 1}


@pytest.fixture(scope="module")
def modules(tiny_v2: Path) -> TorchCall:
    return torch_call(open_family(tiny_v2).stages)


@pytest.fixture(scope="module")
def build(tiny_v2: Path, modules: TorchCall, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TorchScript and ONNX of the networks that speak a whole utterance; what it does not use holds one byte."""
    folder, family = tmp_path_factory.mktemp("build"), open_family(tiny_v2)
    for name in ("flow_encoder", "flow_estimator", "f0_predictor", "vocoder"):
        stage = family.stage(name)
        to_torchscript.export_stage(stage, folder / torchscript_key(stage), "fp32", modules.module(name))
        to_onnx.export_stage(stage, folder / stage_key(name), modules.module(name))
    hashes = Hashes(folder / manifest.HASHES)
    for key, identity in identities(family, tiny_v2, hashes, Selection(("torchscript", "onnx", "llm"))).items():
        if not (folder / key).exists():
            (folder / key).parent.mkdir(exist_ok=True)
            (folder / key).write_bytes(b"?")
        record(folder, key, Entry(identity, hashes.tree(folder / key), 1, 0.0, None, {}))
    return folder


@pytest.fixture(scope="module")
def in_torch(tiny_v2: Path) -> Model:
    return load_model(tiny_v2)


def spoken(model: Model) -> tuple[np.ndarray, Arrays]:
    """Return the waveform, and the inputs of the vocoder."""
    inputs = []

    def call(stage_name: str, /, **arrays: np.ndarray) -> Arrays:
        inputs.extend([arrays] if stage_name == "vocoder" else [])
        return model.call(stage_name, **arrays)

    wave = dataclasses.replace(model, call=call).synthesize(**SAID)
    (last,) = inputs
    return wave, last


@pytest.mark.parametrize("engine", ["torchscript", "onnx"])
def test_every_engine_speaks_the_same(tiny_v2: Path, build: Path, in_torch: Model, engine: str) -> None:
    loaded = load_model(tiny_v2, engine=engine, build_dir=build)
    wave, inputs = spoken(dataclasses.replace(loaded, llm=in_torch.llm))
    expected, expected_inputs = spoken(in_torch)
    mel = expected_inputs["mel"]
    assert np.abs(inputs["mel"] - mel).max() < 1e-4 * np.abs(mel).max()
    assert wave.dtype == expected.dtype == np.float32 and wave.ndim == 1
    assert wave.shape == expected.shape
    # Phase integrates the last bits of f0, so whole waves drift apart; the networks are compared on equal inputs.
    for name, arrays in (
        ("f0_predictor", {"mel": mel, "mel_len": expected_inputs["mel_len"]}),
        ("vocoder", expected_inputs),
    ):
        (ours,), (theirs,) = loaded.call(name, **arrays).values(), in_torch.call(name, **arrays).values()
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    assert np.abs(wave - expected).max() < 2e-3 * np.abs(expected).max()


def test_a_model_says_what_it_is_and_speaks_in_chunks(in_torch: Model) -> None:
    assert (in_torch.family.name, in_torch.sample_rate, in_torch.speakers) == ("cosyvoice2", 24000, ("a", "b"))
    chunks = list(in_torch.stream(**SAID))
    assert len(chunks) > 1 and all(chunk.ndim == 1 for chunk in chunks)
    assert sum(map(len, chunks)) == len(in_torch.synthesize(**SAID))
    assert list(in_torch.stream(**SAID, cancelled=lambda: True)) == []


def test_a_language_model_of_stages_speaks_on_the_same_engine(tiny_v1: Path) -> None:
    model = load_model(tiny_v1)
    wave = model.synthesize(**SAID)
    assert (model.family.name, model.sample_rate) == ("cosyvoice1", 22050)
    assert len(wave) > 1000 and np.isfinite(wave).all() and wave.std() > 1e-3


def test_a_request_at_fault_is_an_error_in_both_ways_to_speak(in_torch: Model) -> None:
    for speak in (in_torch.synthesize, lambda *given, **named: list(in_torch.stream(*given, **named))):
        with pytest.raises(InvalidRequest, match="speaker: unknown speaker 'c'; available: a, b"):
            speak("hi", "c")
        with pytest.raises(InvalidRequest, match="target_text: the text is empty"):
            speak()
        with pytest.raises(InvalidRequest, match="volume: no such input; inputs are target_text"):
            speak("hi", volume=3)


def test_the_networks_of_the_checkpoint_itself_run_beside_torch(in_torch: Model) -> None:
    frames = np.zeros((1, 40, 80), np.float32)
    assert in_torch.call("speaker_embedding", input=frames)["output"].shape == (1, 192)
    with pytest.raises(CheckpointError, match=r"speech_tokenizer_v2.onnx does not exist; .* found: campplus.onnx"):
        in_torch.call("speech_tokenizer", feats=np.zeros((1, 128, 8), np.float32), feats_length=np.array([8], np.int32))


def test_each_engine_gets_the_language_model_that_goes_with_it(
    tiny_v2: Path, build: Path, in_torch: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(in_torch.llm.sessions, TorchSessions)
    assert isinstance(load_model(tiny_v2, engine="onnx", build_dir=build).llm.sessions, GenaiSessions)
    monkeypatch.setattr(load, "check_gpu", lambda *_: None)
    on_gpu = load_model(tiny_v2, device="cuda", engine="torchscript", build_dir=build)
    assert isinstance(on_gpu.llm.sessions, TorchSessions)
    of_stages = dataclasses.replace(toy_family(), lm=StageLm(lambda call: ("session on", call)))
    assert open_llm(of_stages, in_torch.call, pytest.fail) == ("session on", in_torch.call)


def test_fp16_runs_the_fp16_files(in_torch: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = {"mel": np.zeros((1, 80, 4), np.float32), "mel_len": np.array([4], np.int32)}
    for engine, fp16, file in (
        ("onnxruntime", True, "onnx/f0_predictor.fp16.onnx"),
        ("onnxruntime", False, "onnx/f0_predictor.onnx"),
        ("torchscript", True, r"torchscript/f0_predictor.*\.fp16.zip"),
        ("torchscript", False, r"torchscript/f0_predictor.*\.fp32.zip"),
    ):
        call = open_call(engine, in_torch.family.stages, tmp_path, TorchRun(fp16=fp16), tmp_path)
        with pytest.raises(ArtifactError, match=f"{file} does not exist"):
            call("f0_predictor", **mel)
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("tritone.engines.tensorrt.plan_call", lambda *given: asked.append(given))
    open_call("tensorrt", in_torch.family.stages, tmp_path, TorchRun("cuda:1", fp16=True), tmp_path)
    assert asked == [(tmp_path, in_torch.family.stages, "fp16", 1, True)]


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"engine": "onnx"}, ""),
        ({"engine": "torchscript"}, " --formats torchscript,llm"),
        ({"engine": "onnx", "fp16": True}, " --precision fp16"),
        ({"engine": "torchscript", "fp16": True}, " --formats torchscript,llm --precision fp16"),
    ],
)
@pytest.mark.filterwarnings("ignore:engine .* with fp16")
def test_what_is_not_built_is_named_with_its_command(
    tiny_v2: Path, tmp_path: Path, asked: dict[str, Any], options: str
) -> None:
    command = f"Run: tritone build {tiny_v2} --out {tmp_path / 'none'}{options}"
    with pytest.raises(ArtifactError, match=f"does not exist.* {re.escape(command)}$"):
        load_model(tiny_v2, build_dir=tmp_path / "none", **asked)


def test_the_usual_build_folder_is_named_after_the_checkpoint(tiny_v2: Path) -> None:
    assert layout.default_folder("some/where/voice/") == Path("build/voice")
    with pytest.raises(ArtifactError, match=f"^build/{tiny_v2.name}/onnx/"):
        load_model(tiny_v2, engine="onnx")


REFUSED = [
    ({"engine": "openvino"}, "unknown engine 'openvino'; there are torch, torchscript, onnxruntime, tensorrt"),
    ({"device": "tpu"}, "unknown device 'tpu'; there are cpu, cuda, and cuda:1 for a certain GPU"),
    ({"device": "cuda:x"}, "unknown device 'cuda:x'"),
    ({"device": "cpu:0"}, "unknown device 'cpu:0'"),
    (
        {"engine": "tensorrt"},
        r"tensorrt was asked for on the CPU; .* torch, torchscript and onnxruntime run on the CPU",
    ),
    (
        {"engine": "onnx", "device": "cuda"},
        r"onnxruntime was asked for on cuda; .* torch, torchscript and tensorrt run on",
    ),
    ({"fp16": True}, r"torch was asked for with fp16 on the CPU, .* Use fp16=False, or device='cuda'"),
]


@pytest.mark.parametrize(("asked", "message"), REFUSED)
def test_combinations_without_sense_are_refused(tiny_v2: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(tiny_v2, **asked)


@pytest.mark.parametrize("engine", ["torch", "torchscript", "tensorrt"])
def test_a_gpu_that_is_not_there_is_refused(tiny_v2: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(load.gpu, "gpu", lambda _index=0: "")
    with pytest.raises(EnvironmentProblem, match=f"engine {engine} was asked for on CUDA device 1, .* does not have"):
        load_model(tiny_v2, engine=engine, device="cuda:1")


def test_a_torch_that_cannot_use_the_gpu_is_refused(tiny_v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.gpu, "gpu", lambda _index=0: "sm89")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match="cannot use the GPU; install a CUDA build"):
        load_model(tiny_v2, device="cuda")


def test_fp16_on_the_cpu_warns_that_it_is_for_checking() -> None:
    for engine in ("onnxruntime", "torchscript"):
        with pytest.warns(UserWarning, match=f"engine {engine} with fp16 on the CPU .* not faster than fp16=False"):
            assert load.check_choice(engine, "cpu", True) is None


def test_a_gpu_asks_for_engines_it_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = "tensorrt_rtx 1.7"
    monkeypatch.setattr(load.gpu, "found_platform", lambda _index: f"{rtx} sm89")
    monkeypatch.setattr(load.gpu, "target_platform", lambda: f"{rtx} sm89")
    recorded = {"a": "", "b": f"{rtx} sm120"}

    def read(_folder: Path) -> dict[str, Any]:
        return {k: SimpleNamespace(identity=SimpleNamespace(platform=name)) for k, name in recorded.items()}

    monkeypatch.setattr(load.manifest, "read_manifest", read)
    wanted = Selection(("onnx", "tensorrt"), ("fp16",), platform=f"{rtx} sm89")
    assert load.selection("tensorrt", True, 0, tmp_path) == wanted
    recorded["c"] = f"{rtx} portable"
    assert load.engines_platform(tmp_path, 0) == f"{rtx} portable"


def test_plain_values_become_the_requests_tensors() -> None:
    seen: list[Arrays] = []

    def speak(_call: Any, _llm: Any, request: Arrays, _cancelled: Any) -> Iterator[np.ndarray]:
        seen.append(request)
        yield np.ones((1, 3), np.float32)

    given = (
        ("target_text", "bytes"),
        ("speaker", "bytes"),
        ("wav", "float32"),
        ("seed", "int64"),
        ("speed", "float32"),
    )
    family = Family("toy", (), None, tuple(Tensor(n, t, (1, 1)) for n, t in given), (), speak)
    model = Model(family, lambda *_: {}, lambda: None)
    sound = np.linspace(-1, 1, 5)
    assert model.synthesize("höre", wav=sound, seed=3, speed=2, speaker=None).tolist() == [1, 1, 1]
    (request,) = seen
    assert {name: (array.dtype, array.shape) for name, array in request.items()} == {
        "target_text": (np.dtype(object), (1, 1)),
        "wav": (np.dtype("float32"), (1, 5)),
        "seed": (np.dtype("int64"), (1, 1)),
        "speed": (np.dtype("float32"), (1, 1)),
    }
    assert request["target_text"][0, 0] == "höre".encode() and request["speed"] == 2 and request["seed"] == 3
    np.testing.assert_array_equal(request["wav"][0], sound.astype(np.float32))
    for wrong, message in (
        ({"text": b"hi"}, "target_text: is a bytes; give a string"),
        ({"seed": 1.5}, r"seed: takes one number or one row of int64, got float64 \[\]"),
        ({"wav": np.zeros((2, 9))}, r"wav: .* one row of float32, got float64 \[2, 9\]"),
        ({"wav": np.zeros(9, np.int16)}, r"wav: .* got int16 \[9\]"),
        ({"speed": "fast"}, "speed: .* got <U4"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            model.synthesize(**wrong)
