"""Every stage a model of its own, asked by the steps over BLS: the GPU target's repository, run without a GPU.

Names, tensors, batching and the steps are those of `model_repository/gpu`; only the stage models' backend differs.
"""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server.conftest import SENTENCE, lm_tokens

from tritone.catalog import open_family
from tritone.client.errors import RequestFailed
from tritone.client.speech_client import SpeechClient
from tritone.door.limits import Limits
from tritone.serve import GPU_OPTIONS
from tritone.server.repository import render, write
from tritone.supervisor.launch import Server
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

SAME = 1e-4
"""Largest difference relative to the peak: the same files on the same engine, in another process."""
BROKEN = """
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse(error=pb.TritonError("the engine ran out of memory")) for _ in requests]
"""


@pytest.fixture(scope="module")
def repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gpu target's stage models as Python models, with a speech tokenizer that is broken on purpose."""
    models = tmp_path_factory.mktemp("stages") / "models"
    family = open_family(checkpoint)
    write(render(family, "stages"), models)
    (models / f"{family.name}_stage_speech_tokenizer" / "1" / "model.py").write_text(BROKEN)
    return models


@pytest.fixture(scope="module")
def stages(server: Service, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server on that repository beside the ordinary one: same checkpoint and exports, options as on a GPU."""
    build = tmp_path_factory.mktemp("stages-build")
    options = GPU_OPTIONS | {"allow-gpu-metrics": "false"}
    triton = Server(repository, build, server.triton.env, options=options)
    with Service(server.family, triton, free_ports(), limits=Limits(streams=16)).start(150) as running:
        yield running


@pytest.fixture
def staged(stages: Service) -> Iterator[SpeechClient]:
    with SpeechClient(f"127.0.0.1:{stages.ports.grpc}", timeout=120) as client:
        yield client


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape and wanted.size > 1000
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def executions(server: Service, model: str) -> int:
    """Batches the model has run since the server started."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=5) as page:
        found = re.findall(rf'nv_inference_exec_count{{model="{model}",version="1"}} (\S+)', page.read().decode())
    return int(float(found[0]))


def test_ensemble_speaks_what_the_cpu_target_speaks(
    speech: SpeechClient, staged: SpeechClient, stages: Service
) -> None:
    before = executions(stages, "cosyvoice2_stage_flow_estimator")
    wanted = speech.synthesize(SENTENCE, seed=3).waveform
    assert difference(staged.synthesize(SENTENCE, seed=3).waveform, wanted) <= SAME
    assert executions(stages, "cosyvoice2_stage_flow_estimator") - before == 10, "the stage's model was not asked"


def test_stream_speaks_what_the_cpu_target_speaks(speech: SpeechClient, staged: SpeechClient, stages: Service) -> None:
    before = executions(stages, "cosyvoice2_stage_flow_estimator_chunk")
    wanted = np.concatenate(list(speech.stream(SENTENCE, seed=3)))
    chunks = list(staged.stream(SENTENCE, seed=3))
    assert len(chunks) > 1
    assert difference(np.concatenate(chunks), wanted) <= SAME
    assert executions(stages, "cosyvoice2_stage_flow_estimator_chunk") > before


def test_busy_stages_make_requests_wait_and_never_for_each_other(staged: SpeechClient, stages: Service) -> None:
    """More callers than there are instances of any stage, ensembles and streams at once, under the rate limiter."""
    alone = np.concatenate(list(staged.stream(SENTENCE, seed=5)))
    whole: list[np.ndarray] = []
    streamed: list[np.ndarray] = []

    def ask(stream: bool) -> None:
        with SpeechClient(f"127.0.0.1:{stages.ports.grpc}", timeout=120) as client:
            if stream:
                streamed.append(np.concatenate(list(client.stream(SENTENCE, seed=5))))
            else:
                whole.append(client.synthesize(SENTENCE, seed=5).waveform)

    threads = [threading.Thread(target=ask, args=(index % 2 == 0,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    assert not any(thread.is_alive() for thread in threads), "requests wait for each other"
    assert len(whole) == len(streamed) == 4
    assert max(difference(result, alone) for result in streamed) <= SAME
    # The decoder step may have put them into batches of different sizes.
    assert max(difference(result, whole[0]) for result in whole) <= 1e-3


def test_error_of_a_stage_reaches_the_client_with_its_name(staged: SpeechClient) -> None:
    seconds = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    for ask in (staged.synthesize, lambda *a, **k: list(staged.stream(*a, **k))):
        with pytest.raises(RequestFailed, match=r"stage speech_tokenizer .*out of memory"):
            ask(SENTENCE, reference=seconds, reference_text="a reference")
    assert staged.synthesize(SENTENCE).waveform.size > 1000


def test_cancelling_a_stream_stops_its_stages(staged: SpeechClient, stages: Service) -> None:
    stream = staged.stream(" ".join([SENTENCE] * 20), seed=1)
    next(stream)
    stream.close()
    model, quiet = "cosyvoice2_stage_flow_estimator_chunk", 0
    count, deadline = -1, time.monotonic() + 20
    while quiet < 5:
        assert time.monotonic() < deadline, "stages are still asked after the client has gone"
        time.sleep(0.2)
        now = executions(stages, model) + lm_tokens(stages, "cosyvoice2_stream")
        quiet, count = (quiet + 1, now) if now == count else (0, now)
