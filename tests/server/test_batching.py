"""Requests of different lengths are run together by the real batcher, and each gets what it gets alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tritonclient import grpc

from tritone.server.launch import Server

MODEL = "cosyvoice2_flow_encoder"


def counts(server: Server) -> tuple[int, int]:
    """Requests answered and executions run by the flow encoder so far."""
    with grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}") as client:
        stats = client.get_inference_statistics(MODEL).model_stats[0]
    return stats.inference_count, stats.execution_count


def settled(server: Server) -> tuple[int, int]:
    """`counts` once they stand still: the server books a request a little after it has answered it."""
    found, again = counts(server), (-1, -1)
    while found != again:
        time.sleep(0.5)
        found, again = counts(server), found
    return found


def test_requests_of_different_lengths_share_an_execution(server: Server, infer: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    embedding = (rng.standard_normal((1, 192)).astype(np.float32), "FP32")
    prompt = (np.zeros((1, 0), np.int64), "INT64")
    tokens = [rng.integers(0, 60, (1, length)) for length in (150, 160, 170, 180, 190, 200)]

    def mu(row: np.ndarray) -> np.ndarray:
        answer = infer(MODEL, speech_token=(row, "INT64"), prompt_speech_token=prompt, embedding=embedding)
        return answer.as_numpy("mu")

    alone = [mu(row) for row in tokens]
    before = settled(server)
    with ThreadPoolExecutor(len(tokens)) as pool:
        together = list(pool.map(mu, tokens))
    requests, executions = np.subtract(settled(server), before)
    assert requests == len(tokens) and executions < requests
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
