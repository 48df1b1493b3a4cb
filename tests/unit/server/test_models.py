"""Models inside a server process: invalid requests are answered alone, batches are refused, tokens are counted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tritone.errors import ArtifactError, ConfigError, InvalidRequest, TritoneError
from tritone.lm.description import NoLm
from tritone.lm.logits import LogitsLm
from tritone.server import models
from tritone.server.models import HostModel, StreamModel, open_model, refuse_batches
from tritone.stage import Arrays, Family, Host, Tensor

VALUE, WAVE = Tensor("value", "float32", (1, 1)), Tensor("waveform", "float32", (1, 2))


def halve(_call: Any, _llm: Any, requests: list[Arrays], _left: Sequence[Callable[[], bool]] = ()) -> list[Any]:
    """Fails as a whole when any value is 13, answers negative ones with an error of their own."""
    values = [float(request["value"][0, 0]) for request in requests]
    if 13 in values:
        raise RuntimeError("thirteen")
    return [InvalidRequest("value", "is negative") if v < 0 else {"value": np.array([[v / 2]])} for v in values]


def speak(_call: Any, _llm: Any, request: Arrays, cancelled: Callable[[], bool]) -> Iterator[np.ndarray]:
    while not cancelled():
        yield np.zeros(2, np.float32)


def without_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (HostModel, StreamModel):
        monkeypatch.setattr(kind, "warm_up", lambda _self: None)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    family = Family("toy", (), NoLm(), (VALUE,), (WAVE,), speak, (Host("halve", (VALUE,), (VALUE,), halve),))
    monkeypatch.setattr(models, "open_family", lambda *_: family)
    without_warm_up(monkeypatch)
    return lambda name: open_model({"step": name, "model_dir": "m", "build_dir": "b"})


def values(*numbers: float) -> list[Arrays]:
    return [{"value": np.array([[number]], np.float32)} for number in numbers]


def test_one_bad_request_leaves_the_others_alone(step: Callable[[str], Any]) -> None:
    first, second, third = step("halve").run(values(4, -1, 6))
    assert first["value"] == 2 and third["value"] == 3
    assert str(second) == "INVALID_ARGUMENT: value: is negative"


def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(step: Callable[[str], Any]) -> None:
    first, second, third = step("halve").run(values(4, 13, 6))
    assert first["value"] == 2 and third["value"] == 3
    assert isinstance(second, RuntimeError)


def test_request_with_two_rows_is_refused_by_name(step: Callable[[str], Any]) -> None:
    two = {"value": np.zeros((2, 1), np.float32)}
    refused, good = step("halve").run([two, *values(8)])
    assert "INVALID_ARGUMENT: value: has 2 rows; send one utterance per request" in str(refused)
    assert good["value"] == 4
    assert refuse_batches(values(1)[0]) is None


def test_unknown_step_lists_those_that_exist(step: Callable[[str], Any]) -> None:
    with pytest.raises(ConfigError, match="toy has no host step 'third'; it has halve, stream"):
        step("third")


def test_stream_ends_when_cancelled(step: Callable[[str], Any]) -> None:
    answers = itertools.chain([False, False, False], itertools.repeat(True))
    assert len(list(step("stream").stream(values(1)[0], lambda: next(answers)))) == 3


def test_silence_is_no_answer(step: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_arguments: Any) -> list[Any]:
        return [{"waveform": np.zeros((1, 2), np.float32)}]

    family = Family("toy", (), NoLm(), (VALUE,), (WAVE,), speak, (Host("say", (VALUE,), (WAVE,), silent),))
    monkeypatch.setattr(models, "open_family", lambda *_: family)
    (answer,) = step("say").run(values(1))
    assert isinstance(answer, TritoneError) and "the answer's waveform is silent" in str(answer)
    answers = itertools.chain([False, False, True], itertools.repeat(False))  # the networks end, the listener is there
    with pytest.raises(TritoneError, match="the stream is silent"):
        list(step("stream").stream(values(1)[0], lambda: next(answers)))


def test_every_decoded_token_is_counted() -> None:
    class Session:
        def prefill(self, ids: list[int]) -> np.ndarray:
            return np.zeros(len(ids))

        def step(self, token: int) -> np.ndarray:
            return np.full(1, token)

        def close(self) -> None:
            closed.append(True)

    seen: list[int] = []
    closed: list[bool] = []
    llm = LogitsLm(lambda _: Session())
    llm.count(lambda: seen.append(1))
    session = llm.session()
    assert session.prefill([1, 2]).shape == (2,)
    assert [session.step(token)[0] for token in (5, 6, 7)] == [5, 6, 7]
    session.close()
    assert len(seen) == 3 and closed == [True]


def test_parameters_with_unknown_values_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="the parameter stages is 'jax'; it can be onnxruntime, torchscript, torch"):
        models.chosen({"stages": "jax"}, "stages", models.STAGES)
    assert models.chosen({}, "stages", models.STAGES) == "onnxruntime"


def test_stages_on_triton_are_not_opened_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their process would hold the weights a second time, and ask the server for models it may not have loaded yet."""
    family = Family(
        "toy", (), NoLm(), (VALUE,), (VALUE,), speak, (Host("halve", (VALUE,), (VALUE,), halve, ("absent",)),)
    )
    monkeypatch.setattr(models, "open_family", lambda *_: family)
    monkeypatch.setattr(models, "open_call", lambda *_: pytest.fail("opened an engine"))
    monkeypatch.setattr(models, "bls_call", lambda _stages, prefix: prefix)
    opened = open_model({"step": "halve", "model_dir": "m", "build_dir": "b", "stages": "triton"})
    assert isinstance(opened, HostModel) and opened._call == "toy_stage_"


@pytest.mark.parametrize("stages", ["torch", "torchscript"])
def test_networks_run_on_what_the_config_says(monkeypatch: pytest.MonkeyPatch, tiny_v2: Path, stages: str) -> None:
    without_warm_up(monkeypatch)
    monkeypatch.setattr("tritone.engines.open.onnx_call", lambda *_, **__: pytest.fail("opened onnxruntime"))
    values = {"step": "vocoder", "model_dir": str(tiny_v2), "build_dir": "nowhere", "stages": stages}
    step = HostModel(values)
    frames = {"mel": np.zeros((1, 80, 4), np.float32), "mel_len": np.array([4], np.int32)}
    if stages == "torch":
        assert step._call("f0_predictor", **frames)["f0"].shape == (1, 4)
    else:
        with pytest.raises(ArtifactError, match=r"nowhere/torchscript/.*zip does not exist; .* --formats torchscript"):
            step._call("f0_predictor", **frames)


def test_stream_stops_between_two_networks_when_cancelled(step: Callable[[str], Any]) -> None:
    opened = step("stream")
    asked: list[str] = []

    def call(name: str, **_: np.ndarray) -> Arrays:
        asked.append(name)
        return {}

    def synthesize(call: Any, *_: Any) -> Iterator[np.ndarray]:
        for _ in range(10):
            call("network")
        yield np.zeros(2, np.float32)

    opened._call = call
    opened.family = dataclasses.replace(opened.family, synthesize=synthesize)
    assert list(opened.stream(values(1)[0], lambda: len(asked) == 3)) == []
    assert asked == ["network"] * 3


def test_single_stage_answers_each_request_as_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage's requests carry several rows, and one at fault leaves the others alone."""

    def opened(_build: Path, stages: list[str], **_: Any) -> Callable[..., Arrays]:
        def call(name: str, x: np.ndarray) -> Arrays:
            if x.shape[1] == 3:
                raise InvalidRequest("x", "is odd")
            return {"y": 2 * x}

        return call

    monkeypatch.setattr(models, "open_family", lambda _folder: SimpleNamespace(stage=lambda name: name))
    monkeypatch.setattr(models, "onnx_call", opened)
    stage = open_model({"step": "stage:double", "model_dir": "m", "build_dir": "b"})
    first, second = stage.run([{"x": np.ones((2, 3))}, {"x": np.ones((5, 2))}])
    assert str(first) == "INVALID_ARGUMENT: x: is odd"
    assert second["y"].shape == (5, 2) and not stage.streams


def test_language_model_must_be_declared(step: Callable[[str], Any]) -> None:
    with pytest.raises(ConfigError, match="without declaring it"):
        step("halve")._llm.generate([1], 1, None, 0, lambda: False)


def test_server_side_imports_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = (
        "import sys, tritone.server.models; print([n for n in ('torch', 'transformers', 'onnx') if n in sys.modules])"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout == "[]\n"
