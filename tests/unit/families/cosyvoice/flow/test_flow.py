"""The flow computes the published function, and computes it for every row and every chunk alike."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from support.flow_helpers import random_flow, tiny_config
from support.golden_weights import golden, tiny_state

from tritone.engines.torch import torch_call
from tritone.errors import ConfigError
from tritone.families.cosyvoice.config.v2 import EstimatorConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.network import FlowEstimator
from tritone.families.cosyvoice.flow.noise import published_noise
from tritone.families.cosyvoice.flow.v2.estimator import Estimator
from tritone.families.cosyvoice.flow.v2.network import Flow
from tritone.families.cosyvoice.flow.v2.stages import flow_stages
from tritone.stage import Arrays, Call


@functools.cache
def published() -> Flow:
    flow = Flow(tiny_config())
    flow.load_state_dict(tiny_state("flow"), strict=True)
    return flow.eval()


def published_call() -> Call:
    return torch_call(flow_stages(tiny_config(), published))


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def golden_arguments(want: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with the prompt in front, and the prompt's mel as the decoder's condition."""
    token = np.concatenate([want["prompt_token"], want["token"]], axis=1).astype(np.int64)
    cond = np.zeros_like(want["mu"])
    cond[:, :, : want["prompt_feat"].shape[1]] = want["prompt_feat"].transpose(0, 2, 1)
    return token, cond


@pytest.mark.parametrize("streaming", [0, 1])
def test_whole_utterance_equals_the_published_numbers(streaming: int) -> None:
    want = golden(f"flow_s{streaming}_f1")
    token, cond = golden_arguments(want)
    call = published_call()
    tokens, frames = (25, 50) if streaming else (cfm.FULL_ATTENTION, cfm.FULL_ATTENTION)
    encoded = call(
        "flow_encoder",
        speech_token=token,
        speech_token_len=np.array([token.shape[1]], np.int32),
        embedding=want["embedding"],
        chunk_size=np.array([tokens]),
    )
    close(encoded["mu"], want["mu"])
    close(encoded["spks"], want["spks"])
    length = encoded["mu"].shape[2]
    noise = published_noise()[:, :, :length]
    mask = np.ones((1, 1, length), np.float32)
    mel = cfm.solve(call, encoded["mu"], encoded["spks"], cond, mask, noise, chunk_size=frames)
    close(mel[:, :, want["prompt_feat"].shape[1] :], want["mel"])


@pytest.mark.parametrize("streaming", [0, 1])
def test_unfinished_speech_equals_the_published_numbers_in_one_step(streaming: int) -> None:
    want = golden(f"flow_s{streaming}_f0")
    token, cond = golden_arguments(want)
    stages = flow_stages(tiny_config(), published)
    call = torch_call(stages)
    tokens, frames = (25, 50) if streaming else (cfm.FULL_ATTENTION, cfm.FULL_ATTENTION)
    encoded = call(
        "flow_encoder_chunk",
        speech_token=token,
        speech_token_len=np.array([token.shape[1]], np.int32),
        embedding=want["embedding"],
        chunk_size=np.array([tokens]),
        **cfm.initial_state(stages[1]),
    )
    close(encoded["mu"], want["mu"])
    noise = published_noise()[:, :, : encoded["mu"].shape[2]]
    state = cfm.initial_solver_state(stages[3], steps=10)
    mel, _ = cfm.solve_chunk(call, encoded["mu"], encoded["spks"], cond, noise, state, chunk_size=frames)
    close(mel[:, :, want["prompt_feat"].shape[1] :], want["mel"])


@pytest.mark.parametrize(("chunk_size", "name"), [(cfm.FULL_ATTENTION, "out"), (50, "out_streaming")])
def test_estimator_equals_the_published_numbers(chunk_size: int, name: str) -> None:
    want = golden("estimator")
    inputs = [torch.from_numpy(want[key]) for key in ("x", "mask", "mu", "t", "spks", "cond")]
    with torch.no_grad():
        found = FlowEstimator(published())(*inputs, torch.tensor([chunk_size]))
    close(found.numpy(), want[name])


def test_the_published_numbers_tell_the_masks_apart() -> None:
    want = golden("estimator")
    with pytest.raises(AssertionError):
        close(want["out"], want["out_streaming"], 1e-2)


@pytest.mark.parametrize("left_chunks", [-1, 1])
@pytest.mark.parametrize("chunk", [4, cfm.FULL_ATTENTION])
def test_ragged_rows_equal_what_they_give_alone(left_chunks: int, chunk: int) -> None:
    config, flow = random_flow(left_chunks, chunk=4)
    call = torch_call(flow_stages(config, lambda: flow))
    rng = np.random.default_rng(1)
    lengths = [19, 7, 1]
    token = rng.integers(0, config.vocab_size, (3, 19))
    embedding = rng.standard_normal((3, config.spk_embed_dim)).astype(np.float32)
    noise, cond = rng.standard_normal((2, 3, 80, 38)).astype(np.float32)

    def run(rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
        count = np.array(lengths[rows])
        encoded = call(
            "flow_encoder",
            speech_token=token[rows, :size],
            speech_token_len=count.astype(np.int32),
            embedding=embedding[rows],
            chunk_size=np.array([chunk]),
        )
        mask = (np.arange(2 * size) < 2 * count[:, None]).astype(np.float32)[:, None]
        window = np.s_[rows, :, : 2 * size]
        mel = cfm.solve(call, encoded["mu"], encoded["spks"], cond[window], mask, noise[window], 2 * chunk, steps=3)
        return encoded["mu"], mel

    together = run(slice(0, 3), 19)
    for row, length in enumerate(lengths):
        alone = run(slice(row, row + 1), length)
        for joint, single in zip(together, alone, strict=True):
            close(joint[row : row + 1, :, : 2 * length], single, 1e-5)
        assert not together[0][row, :, 2 * length :].any()


def test_a_wrong_number_of_levels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"estimator\.channels is \[256, 256\]; .* which needs one width"):
        Estimator(EstimatorConfig(channels=(256, 256)))
