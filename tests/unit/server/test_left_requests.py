"""Whole requests whose clients leave: their work ends between tokens, stages, segments and windows; others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import moss_helpers
from support.bert_vits2 import folder as bert

from tritone.calls import Gone, each, never, stoppable
from tritone.errors import Cancelled
from tritone.families.cosyvoice.speak.segments import in_rounds, joined
from tritone.load import Model, load_model, read_request
from tritone.server.models import HostModel
from tritone.stage import Arrays, Host

FAMILIES = ["cosyvoice1", "cosyvoice2", "cosyvoice3", "moss_ttsd", "bert_vits2"]
Step = tuple[Host, Arrays]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    if request.param.startswith("cosyvoice"):
        folder: Path = request.getfixturevalue(f"tiny_v{request.param[-1]}")
    elif request.param == "moss_ttsd":
        folder = moss_helpers.write_checkpoint(tmp_path_factory.mktemp("moss"))
    else:
        folder = bert.write_tiny(tmp_path_factory.mktemp("bert"))
    return load_model(folder)


@pytest.fixture(scope="module")
def steps(model: Model) -> list[Step]:
    """Return each host step with the request that reaches it."""
    talk, more = ("[S1]Hi.", {"max_seconds": 4.0}) if model.family.name == "moss_ttsd" else ("Hi.", {})
    known, found = read_request(model.family, talk, "", more), []
    for host in model.family.hosts:
        request = {tensor.name: known[tensor.name] for tensor in host.inputs if tensor.name in known}
        found.append((host, request))
        (result,) = host.run(model.call, model.llm, [request])
        assert isinstance(result, dict), host.name
        known |= result
    return found


class Work:
    """A host step as a server runs it, with what it did: calls of stages, tokens, and questions for the client."""

    def __init__(self, model: Model, host: Host) -> None:
        self.calls = self.tokens = self.asked = 0
        self._host = HostModel.__new__(HostModel)
        self._host.family, self._host._host, self._host._llm = model.family, host, model.llm
        self._host._call = self.call
        self._model = model
        model.llm.count(self.token)

    def call(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        self.calls += 1
        return self._model.call(stage_name, **arrays)

    def token(self) -> None:
        self.tokens += 1

    def run(self, requests: list[Arrays], left: list[Gone]) -> list[Any]:
        return self._host.run(requests, left)

    def leaving(self, asks: float) -> Gone:
        """Return a client that leaves once it has been asked for so many times."""

        def left() -> bool:
            self.asked += 1
            return self.asked > asks

        return left


@pytest.fixture
def quiet(model: Model) -> Iterator[None]:
    yield
    model.llm.count(lambda: None)


@pytest.mark.usefixtures("quiet")
def test_a_step_ends_soon_after_its_client_has_left(model: Model, steps: list[Step]) -> None:
    fewer = 0
    for host, request in steps:
        whole = Work(model, host)
        assert isinstance(whole.run([request], [whole.leaving(float("inf"))])[0], dict)
        none = Work(model, host)
        assert isinstance(none.run([request], [none.leaving(0)])[0], Cancelled)
        assert (none.calls, none.tokens) == (0, 0), host.name
        half = Work(model, host)
        assert isinstance(half.run([request], [half.leaving(whole.asked // 2)])[0], Cancelled), host.name
        # A client is asked for before each token and each stage, so half of the questions is half of the work.
        assert half.tokens <= whole.tokens // 2 + 2 and half.calls <= whole.calls // 2 + 2, host.name
        fewer += whole.tokens > half.tokens or whole.calls > half.calls
    assert fewer >= len(steps) // 2 + 1, "most steps have work that can end early"


@pytest.mark.usefixtures("quiet")
def test_others_of_a_batch_go_on(model: Model, steps: list[Step]) -> None:
    for host, request in steps:
        work = Work(model, host)
        alone = work.run([request], [never])[0]
        gone, there = work.run([request, request], [work.leaving(1), never])
        assert isinstance(gone, Cancelled), host.name
        assert there.keys() == alone.keys()
        for name, array in alone.items():
            assert there[name].shape == array.shape, (host.name, name)
            peak = np.abs(array).max(initial=1e-3)
            assert np.abs(there[name] - array).max(initial=0) <= 1e-4 * peak, (host.name, name)


def test_segments_of_a_client_that_left_are_not_run() -> None:
    ran: list[list[int]] = []

    def run(rows: list[int]) -> list[np.ndarray]:
        ran.append(rows)
        return [np.full((1, 1), value) for value in rows]

    def join(found: list[np.ndarray]) -> Arrays:
        return joined("value", "value_len", found)

    left: list[Callable[[], bool]] = [never, lambda: len(ran) >= 1, never]
    first, second, third = in_rounds([[1, 2, 3], [10, 20, 30], [100]], run, join, left)
    assert ran == [[1, 10, 100], [2], [3]]
    assert isinstance(second, Cancelled) and isinstance(first, dict) and isinstance(third, dict)
    assert first["value"].tolist() == [[1, 2, 3]] and first["value_len"].tolist() == [[1, 1, 1]]
    assert third["value"].tolist() == [[100]]
    ran.clear()
    assert all(isinstance(one, Cancelled) for one in in_rounds([[1], [2]], run, join, [lambda: True] * 2))
    assert ran == []


def test_nobody_leaves_by_default_and_a_stoppable_call_starts_no_stage_afterwards() -> None:
    assert [gone() for gone in each((), 2)] == [False, False]

    def call(stage_name: str, **_: np.ndarray) -> Arrays:
        return {stage_name: np.zeros(1)}

    assert stoppable(call, never)("one").keys() == {"one"}
    with pytest.raises(Cancelled):
        stoppable(call, lambda: True)("one")
