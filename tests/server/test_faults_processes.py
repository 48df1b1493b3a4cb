"""Each process of a server is killed and stopped while it speaks; the server mends itself behind the same ports."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import Belongings, Talk, good_request, own_server, until

from tritone.client.errors import RequestFailed, ServerRecovering
from tritone.supervisor.processes import model_processes
from tritone.supervisor.service import Service

MODELS = (
    "cosyvoice2_text_encoder", "cosyvoice2_llm", "cosyvoice2_flow_encoder", "cosyvoice2_flow_decoder",
    "cosyvoice2_vocoder", "cosyvoice2_stream", "speech_tokenizer", "speaker_embedding",
)  # fmt: skip
STOPPED = ("cosyvoice2_llm", "cosyvoice2_flow_decoder", "cosyvoice2_stream", "tritonserver")
"""Processes that are stopped, and not only killed, in every run of the tests."""


@pytest.fixture(scope="module")
def service(checkpoint: Path) -> Iterator[Service]:
    """A server of this file's own, since it breaks it."""
    with own_server(checkpoint) as running:
        for talk in [Talk(whole, running).start() for whole in (True, False)]:
            talk.end()
        yield running


def process_of(service: Service, model: str) -> int:
    """Return a process of the model, or Triton's own."""
    assert service.triton.process is not None
    server = service.triton.process.pid
    if model == "tritonserver":
        return server
    return next(process.pid for process in model_processes(server) if process.model == model)


def restarts(service: Service) -> float:
    """Return how often something was loaded or started again."""
    family = service.door.metrics.restarts.collect()[0]
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


EVERYTHING = [(model, signal.SIGKILL) for model in (*MODELS, "tritonserver")] + [
    # The others behave alike; `pytest -m slow` stops each of them, too.
    pytest.param(model, signal.SIGSTOP, marks=() if model in STOPPED else pytest.mark.slow)
    for model in (*MODELS, "tritonserver")
]


@pytest.mark.parametrize(("model", "fault"), EVERYTHING)
def test_a_server_speaks_again_whichever_process_fails(service: Service, model: str, fault: signal.Signals) -> None:
    before, count, triton = Belongings.of(service), restarts(service), process_of(service, "tritonserver")
    talks = [Talk(whole, service).start() for whole in (True, False)]
    talks[1].began.wait(60)
    os.kill(process_of(service, model), fault)
    until(lambda: restarts(service) > count, f"a new start of {model}")
    for talk in talks:
        talk.end()
        assert talk.error is None or isinstance(talk.error, ServerRecovering | RequestFailed), talk.error
    # Triton itself may go down with a process; it is another one then.
    if model not in ("tritonserver", "cosyvoice2_stream") and process_of(service, "tritonserver") == triton:
        assert talks[1].error is None, "a stream needs no other model's process"
    good_request(service)
    before.check(service)
    assert service.door.health.state.ready
