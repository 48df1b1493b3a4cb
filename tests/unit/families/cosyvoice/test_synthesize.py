"""Requests through the whole order of calls, on torch with the tiny checkpoint: ensemble steps and streaming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritone.engines.torch import torch_call
from tritone.errors import InvalidRequest, TritoneError
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.lm.v2.session import TorchSession
from tritone.lm.logits import LogitsLm
from tritone.stage import Arrays, Family


@pytest.fixture(scope="module")
def tiny(tiny_v2: Path) -> tuple:
    model = family(tiny_v2)
    lm = model.causal_lm.build()
    return model, torch_call(model.stages), LogitsLm(lambda _: TorchSession(lm))


def text(words: str) -> np.ndarray:
    return np.array([[words.encode()]], dtype=object)


def run_ensemble(model: Family, call: object, llm: object, requests: list[Arrays]) -> list[object]:
    """Return the hosts in order, each fed by name from the request and all earlier outputs, as the ensemble does."""
    pools: list[object] = [dict(request) for request in requests]
    for host in model.hosts:
        names = [tensor.name for tensor in host.inputs]
        alive = [i for i, pool in enumerate(pools) if isinstance(pool, dict)]
        if not alive:
            break
        rows = [{name: pools[i][name] for name in names if name in pools[i]} for i in alive]
        for i, result in zip(alive, host.run(call, llm, rows), strict=True):
            pools[i] = {**pools[i], **result} if isinstance(result, dict) else result
    return pools


def recorded(wav: np.ndarray, valid: int | None = None) -> Arrays:
    """Return the inputs of a recording, of which so many samples are said to be valid."""
    length = {} if valid is None else {"reference_wav_len": np.array([[valid]], np.int32)}
    return {"reference_wav": wav.astype(np.float32)[None], **length}


def test_a_batch_of_ragged_requests_gives_what_each_gives_alone(tiny: tuple) -> None:
    requests = [
        {"target_text": text("hi"), "speaker": text("a"), "seed": np.array([[1]])},
        {"target_text": text("hey you"), "speaker": text("b"), "seed": np.array([[2]])},
    ]
    together = run_ensemble(*tiny, requests)
    for request, joint in zip(requests, together, strict=True):
        alone = run_ensemble(*tiny, [request])[0]
        assert joint["waveform"].shape == alone["waveform"].shape == (1, joint["mel"].shape[2] * 480)
        assert np.abs(joint["mel"] - alone["mel"]).max() < 1e-4
        assert np.abs(joint["waveform"] - alone["waveform"]).max() < 1e-3  # phase integrates the last bits of f0


def test_the_text_front_end_can_be_switched_off(tiny: tuple) -> None:
    def ids(written: str, **more: np.ndarray) -> list[int]:
        (result,) = tiny[0].hosts[0].run(tiny[1], None, [{"target_text": text(written), **more}])
        return [result["segment_len"].shape[1], *result["text_token"][0].tolist()]

    as_written = {"text_frontend": np.array([[False]])}
    assert ids("I paid $5.") == ids("I paid five dollars.") == ids("I paid $5.", text_frontend=np.array([[True]]))
    assert ids("I paid $5.", **as_written) != ids("I paid $5.")
    assert ids("five dollars. And more.", **as_written) == ids("five dollars. And more.")
    long = "One. " * 90
    assert ids(long, **as_written)[1:] == ids(long.rstrip() + " ", **as_written)[1:]


def test_declared_outputs_are_what_the_steps_return(tiny: tuple) -> None:
    model, call, llm = tiny
    pool: Arrays = {"target_text": text("hi")}
    for host in model.hosts:
        result = host.run(call, llm, [{t.name: pool[t.name] for t in host.inputs if t.name in pool}])[0]
        assert set(result) == {tensor.name for tensor in host.outputs}
        for tensor in host.outputs:
            assert result[tensor.name].dtype == tensor.dtype, tensor.name
            assert result[tensor.name].ndim == len(tensor.shape), tensor.name
        pool |= result


def test_streaming_is_reproducible_by_seed_and_speaks_every_segment(tiny: tuple) -> None:
    model, call, llm = tiny
    request = {"target_text": text("ab\ncd"), "speaker": text("a"), "seed": np.array([[5]])}
    first = np.concatenate(list(model.synthesize(call, llm, request)))
    again = np.concatenate(list(model.synthesize(call, llm, request)))
    other = np.concatenate(list(model.synthesize(call, llm, request | {"seed": np.array([[6]])})))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or np.abs(first - other).max() > 1e-3


def test_cancelling_stops_the_language_model(tiny: tuple) -> None:
    model, call, llm = tiny
    steps = 0

    class Counting:
        def __init__(self) -> None:
            self.session = llm.session()
            self.prefill, self.close = self.session.prefill, self.session.close

        def step(self, token: int) -> np.ndarray:
            nonlocal steps
            steps += 1
            return self.session.step(token)

    request = {"target_text": text("a rather long sentence that would take many tokens"), "speaker": text("a")}
    chunks = model.synthesize(call, LogitsLm(lambda _: Counting()), request, cancelled=lambda: steps >= 30)
    list(chunks)
    assert steps == 30


def test_a_silent_language_model_is_an_error_in_both_modes(tiny: tuple) -> None:
    model, call, llm = tiny

    class Silent:
        def __init__(self) -> None:
            self.close = llm.session().close

        def prefill(self, _ids: list[int]) -> np.ndarray:
            logits = np.full(6564, -np.inf, np.float32)
            logits[6562] = 0  # a stop id that the minimum length does not suppress
            return logits

    silent = LogitsLm(lambda _: Silent())
    request = {"target_text": text("hi"), "speaker": text("a")}
    whole = run_ensemble(model, call, silent, [request])[0]
    assert isinstance(whole, TritoneError)
    assert str(whole) == "segment 1 of 1 produced no speech; try another seed"
    with pytest.raises(TritoneError, match="segment 1 of 1 produced no speech"):
        list(model.synthesize(call, silent, request))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"target_text": text("")}, "target_text: the text is empty"),
        ({"target_text": text("   ")}, "target_text: the text is empty"),
        ({"target_text": text("a" * 100_000)}, "target_text: 100000 characters"),
        ({"target_text": np.array([[b"\xff\xfe"]], dtype=object)}, "target_text: .*UTF-8"),
        ({"target_text": text("hi"), "speaker": text("nobody")}, "speaker: unknown speaker 'nobody'; available: a, b"),
        ({"target_text": text("hi"), "speed": np.array([[0.0]], np.float32)}, "speed: asked for 0, .* 0.5 to 2"),
        ({"target_text": text("hi"), "speed": np.array([[100.0]], np.float32)}, "speed: asked for 100"),
        ({"target_text": text("hi"), "speed": np.array([[np.nan]], np.float32)}, "speed: is nan"),
        ({"target_text": text("hi"), "seed": np.array([[-1]])}, "seed: asked for -1"),
        ({"target_text": text("hi"), "volume": np.array([[1]])}, "volume: no such input"),
        ({"target_text": text("hi"), "reference_text": text("a")}, "reference_text: came without reference_wav"),
        (
            {"target_text": text("hi"), "reference_wav": np.full((1, 16000), np.nan, np.float32)},
            "reference_wav: .*(NaN|finite)",
        ),
        ({"target_text": text("hi"), "reference_wav": np.ones((1, 100), np.float32)}, "reference_wav: .*0.5 s"),
        ({"target_text": text("hi"), "reference_wav": np.ones((1, 500000), np.float32)}, "reference_wav: .*30 s"),
        (
            {"target_text": text("hi"), "speaker": text("a"), "reference_wav": np.ones((1, 16000), np.float32)},
            "speaker: came together with reference_wav",
        ),
        ({"target_text": text("hi"), **recorded(np.ones(0))}, "reference_wav: is empty: it has no samples; send"),
        ({"target_text": text("hi"), **recorded(np.ones(16000), 0)}, "reference_wav: is empty"),
        ({"target_text": text("hi"), "speaker": text("a"), **recorded(np.ones(16000), 0)}, "reference_wav: is empty"),
        ({"target_text": text("hi"), "speaker": text("a"), **recorded(np.ones(0))}, "reference_wav: is empty"),
        ({"target_text": text("hi"), "reference_wav_len": np.array([[9]])}, "reference_wav_len: came without referenc"),
        ({"mode": text("vc"), "source_wav": np.ones((1, 0), np.float32)}, "source_wav: is empty"),
        ({"target_text": text("hi"), **recorded(np.tile([1e38, -1e38], 8000))}, "reference_wav: reaches 1e\\+38"),
        (
            {"target_text": text("hi"), **recorded(9000 * np.sin(np.arange(16000)))},
            "reference_wav: reaches .* by 32768",
        ),
        ({"target_text": text("hi"), **recorded(np.ones(16000))}, "reference_wav: is silent"),
    ],
)
def test_a_bad_request_is_answered_with_its_field(tiny: tuple, request_: Arrays, message: str) -> None:
    model, call, llm = tiny
    answer = model.hosts[0].run(call, llm, [request_, {"target_text": text("hi")}])
    assert isinstance(answer[0], InvalidRequest)
    with pytest.raises(InvalidRequest, match=message):
        raise answer[0]
    with pytest.raises(InvalidRequest, match=message):
        next(iter(model.synthesize(call, llm, request_)))
    assert isinstance(answer[1], dict)
