"""Requests of different lengths are run together by the real batcher, and each gets what it gets alone."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient import grpc

from tritone.supervisor.service import Service

MODEL = "cosyvoice2_flow_encoder"


def counts(server: Service) -> tuple[int, int]:
    """Requests answered and executions run by the flow encoder so far."""
    with grpc.InferenceServerClient(server.triton.grpc) as client:
        stats = client.get_inference_statistics(MODEL).model_stats[0]
    return stats.inference_count, stats.execution_count


def settled(server: Service) -> tuple[int, int]:
    """`counts` once they stand still: the server books a request a little after it has answered it."""
    found, again = counts(server), (-1, -1)
    while found != again:
        time.sleep(0.5)
        found, again = counts(server), found
    return found


def burst(server: Service, requests: list[dict[str, tuple[np.ndarray, str]]]) -> list[np.ndarray]:
    """Return `mu` of each request, all sent at once on one connection, however slowly this process runs."""
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(server.triton.grpc) as client:
        for number, inputs in enumerate(requests):
            tensors = []
            for name, (array, datatype) in inputs.items():
                tensors.append(grpc.InferInput(name, list(array.shape), datatype))
                tensors[-1].set_data_from_numpy(array)
            client.async_infer(
                MODEL, tensors, lambda result, error: answers.put(error or result), request_id=str(number)
            )
        results = {int((answer := answers.get(timeout=120)).get_response().id): answer for _ in requests}
    return [results[number].as_numpy("mu") for number in range(len(requests))]


def test_requests_of_different_lengths_share_an_execution(server: Service, inside: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    embedding = (rng.standard_normal((1, 192)).astype(np.float32), "FP32")
    prompt = (np.zeros((1, 0), np.int64), "INT64")
    tokens = [rng.integers(0, 60, (1, length)) for length in (150, 160, 170, 180, 190, 200)]

    def request(row: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
        length = (np.array([[row.shape[1]]]), "INT64")
        given = {"speech_token": (row, "INT64"), "token_len": length}
        return {**given, "prompt_speech_token": prompt, "embedding": embedding}

    def mu(row: np.ndarray) -> np.ndarray:
        answer = inside(MODEL, **request(row))
        return answer.as_numpy("mu")

    alone = [mu(row) for row in tokens]
    before = settled(server)
    together = burst(server, [request(row) for row in tokens])
    requests, executions = np.subtract(settled(server), before)
    assert requests == len(tokens) and executions < requests
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
