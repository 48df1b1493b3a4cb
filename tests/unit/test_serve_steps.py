"""A step inside a server process: requests at fault are answered alone, batches are refused, tokens are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritone.errors import ConfigError, InvalidRequest
from tritone.server import steps
from tritone.server.steps import Step, counted, no_llm, refuse_batches
from tritone.stage import Arrays, Family, Host, Tensor

VALUE = Tensor("value", "float32", (1, 1))


def halve(_call: Any, _llm: Any, requests: list[Arrays]) -> list[Any]:
    """Fails as a whole when any value is 13, answers negative ones with an error of their own."""
    values = [float(request["value"][0, 0]) for request in requests]
    if 13 in values:
        raise RuntimeError("thirteen")
    return [InvalidRequest("value", "is negative") if v < 0 else {"value": np.array([[v / 2]])} for v in values]


def speak(_call: Any, _llm: Any, request: Arrays, cancelled: Callable[[], bool]) -> Iterator[np.ndarray]:
    while not cancelled():
        yield np.zeros(2, np.float32)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Step]:
    family = Family("toy", (), None, (VALUE,), (VALUE,), speak, (Host("halve", (VALUE,), (VALUE,), halve),))
    monkeypatch.setattr(steps, "open_family", lambda _folder: family)
    monkeypatch.setattr(Step, "warm_up", lambda _self: None)
    return lambda name: Step({"step": name, "model_dir": "m", "build_dir": "b"})


def values(*numbers: float) -> list[Arrays]:
    return [{"value": np.array([[number]], np.float32)} for number in numbers]


def test_one_bad_request_leaves_the_others_alone(step: Callable[[str], Step]) -> None:
    first, second, third = step("halve").run(values(4, -1, 6))
    assert first["value"] == 2 and third["value"] == 3
    assert str(second) == "INVALID_ARGUMENT: value: is negative"


def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(step: Callable[[str], Step]) -> None:
    first, second, third = step("halve").run(values(4, 13, 6))
    assert first["value"] == 2 and third["value"] == 3
    assert isinstance(second, RuntimeError)


def test_request_with_two_rows_is_refused_by_name(step: Callable[[str], Step]) -> None:
    two = {"value": np.zeros((2, 1), np.float32)}
    refused, good = step("halve").run([two, *values(8)])
    assert "INVALID_ARGUMENT: value: has 2 rows; send one utterance per request" in str(refused)
    assert good["value"] == 4
    assert refuse_batches(values(1)[0]) is None


def test_unknown_step_lists_those_that_exist(step: Callable[[str], Step]) -> None:
    with pytest.raises(ConfigError, match="toy has no step 'third'; its steps are halve, stream"):
        step("third")


def test_stream_ends_when_cancelled(step: Callable[[str], Step]) -> None:
    answers = iter([False, False, False, True])
    assert len(list(step("stream").stream(values(1)[0], lambda: next(answers)))) == 3


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
    session = counted(Session, lambda: seen.append(1))()
    assert session.prefill([1, 2]).shape == (2,)
    assert [session.step(token)[0] for token in (5, 6, 7)] == [5, 6, 7]
    session.close()
    assert len(seen) == 3 and closed == [True]


def test_language_model_must_be_declared() -> None:
    with pytest.raises(ConfigError, match="without declaring it"):
        no_llm()


def test_server_side_imports_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = "import sys, tritone.server.steps; print([n for n in ('torch', 'transformers', 'onnx') if n in sys.modules])"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout == "[]\n"
