"""The v1 flow computes the published function, for every row of a ragged batch and for chunks that continue others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden_weights import golden
from support.v1_helpers import tiny_config, tiny_flow, tiny_stages

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.v1.cache import continued, empty_cache, next_cache
from tritone.families.cosyvoice.flow.v1.interpolation import frame_positions
from tritone.nn.norm import MaskedGroupNorm
from tritone.stage import Arrays, Call


@pytest.fixture(scope="module")
def call() -> Call:
    stages = tiny_stages()
    return torch_call([stages["flow_encoder"], stages["flow_estimator"]])


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def encode(call: Call, want: Arrays) -> Arrays:
    """Return the encoder's answer to the arguments of a golden file."""
    prompt, token = want["prompt_token"], want["token"]
    at, fraction = frame_positions(tiny_config().flow, prompt.shape[1], want["prompt_feat"].shape[1], token.shape[1])
    both = np.concatenate([prompt, token], axis=1).astype(np.int64)
    return call(
        "flow_encoder",
        speech_token=both,
        speech_token_len=np.array([both.shape[1]], np.int32),
        embedding=want["embedding"],
        frame_token=at[None],
        frame_fraction=fraction[None],
        frame_len=np.array([len(at)], np.int32),
    )


def solve(call: Call, want: Arrays, mu: np.ndarray, spks: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return mel after the prompt."""
    prompt = want["prompt_feat"].shape[1]
    cond = np.zeros_like(mu)
    cond[:, :, :prompt] = want["prompt_feat"].transpose(0, 2, 1)
    mask = np.ones((1, 1, mu.shape[2]), np.float32)
    return cfm.solve(call, mu, spks, cond, mask, noise, chunk_size=None)[:, :, prompt:]


def test_a_first_chunk_equals_published(call: Call) -> None:
    want, config = golden("flow", "v1"), tiny_config().flow
    encoded = encode(call, want)
    close(encoded["mu"], want["mu"])
    close(encoded["spks"], want["spks"])
    noise, mu = continued(want["z"], encoded["mu"], empty_cache(config))
    np.testing.assert_array_equal(noise, want["z"])
    np.testing.assert_array_equal(mu, encoded["mu"])
    close(next_cache(config, noise, mu, want["prompt_feat"].shape[1]), want["cache"])
    close(solve(call, want, mu, encoded["spks"], noise), want["mel"])


@torch.inference_mode()
def test_the_encoder_equals_published() -> None:
    want, flow = golden("flow", "v1"), tiny_flow()
    token = torch.from_numpy(np.concatenate([want["prompt_token"], want["token"]], axis=1).astype(np.int64))
    close(flow.encoder(flow.input_embedding(token)).numpy(), want["encoder_out"])


def test_a_chunk_that_continues_another_equals_published(call: Call) -> None:
    want, config = golden("flow_cached", "v1"), tiny_config().flow
    encoded = encode(call, want)
    torch.manual_seed(1235)
    drawn = torch.randn(1, 80, encoded["mu"].shape[2]).numpy()
    noise, mu = continued(drawn, encoded["mu"], want["flow_cache"])
    close(next_cache(config, noise, mu, want["prompt_feat"].shape[1]), want["cache"])
    close(solve(call, want, mu, encoded["spks"], noise), want["mel"])
    with pytest.raises(AssertionError):  # without the cache it is something else
        close(solve(call, want, encoded["mu"], encoded["spks"], drawn), want["mel"], 1e-2)


def test_the_estimator_equals_published(call: Call) -> None:
    want = golden("estimator", "v1")
    inputs = {name: want[name] for name in ("x", "mask", "mu", "t", "spks", "cond")}
    close(call("flow_estimator", **inputs)["velocity"], want["out"])


@pytest.mark.parametrize("tokens", [1, 40, 41, 60, 87])
@pytest.mark.parametrize("prompt", [(0, 0), (30, 51), (30, 70)])
def test_positions_interpolate_as_torch_does(tokens: int, prompt: tuple[int, int]) -> None:
    config = tiny_config().flow
    at, fraction = frame_positions(config, *prompt, tokens)
    x = np.random.default_rng(0).standard_normal((1, 3, prompt[0] + tokens)).astype(np.float32)
    after = np.minimum(at + 1, x.shape[2] - 1)
    found = x[:, :, at] * (1 - fraction) + x[:, :, after] * fraction

    parts = [(prompt[0], prompt[1]), (tokens, config.frames(tokens))]
    if tokens > 40:
        parts[1:] = [(20, 34), (tokens - 40, config.frames(tokens) - 68), (20, 34)]
    pieces, start = [], 0
    for count, frames in parts:
        if frames:
            piece = torch.from_numpy(x[:, :, start : start + count])
            pieces.append(torch.nn.functional.interpolate(piece, size=frames, mode="linear").numpy())
        start += count
    # A position's last float32 bit, which depends on how a multiplication and a sum are fused.
    np.testing.assert_allclose(found, np.concatenate(pieces, axis=2), atol=2e-5)


def test_ragged_rows_equal_what_they_give_alone(call: Call) -> None:
    config = tiny_config().flow
    rng = np.random.default_rng(1)
    lengths = [61, 3, 8]
    frames = [config.frames(n) for n in lengths]
    assert any(n % 2 for n in frames)  # halving the rate of an odd row is the difficult case
    token = rng.integers(0, config.vocab_size, (3, 61))
    embedding = rng.standard_normal((3, 192)).astype(np.float32)
    at, fraction = np.full((3, frames[0]), 60), np.full((3, frames[0]), 0.7, np.float32)
    for row, n in enumerate(lengths):
        at[row, : frames[row]], fraction[row, : frames[row]] = frame_positions(config, 0, 0, n)
    noise, cond = rng.standard_normal((2, 3, 80, frames[0])).astype(np.float32)

    def run(rows: slice, tokens: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        encoded = call(
            "flow_encoder",
            speech_token=token[rows, :tokens],
            speech_token_len=np.array(lengths[rows], np.int32),
            embedding=embedding[rows],
            frame_token=at[rows, :count],
            frame_fraction=fraction[rows, :count],
            frame_len=np.array(frames[rows], np.int32),
        )
        mask = (np.arange(count) < np.array(frames[rows])[:, None]).astype(np.float32)[:, None]
        mu, window = encoded["mu"], np.s_[rows, :, :count]
        return mu, cfm.solve(call, mu, encoded["spks"], cond[window], mask, noise[window], None, steps=3)

    together = run(slice(0, 3), 61, frames[0])
    for row, length in enumerate(lengths):
        alone = run(slice(row, row + 1), length, frames[row])
        for joint, single in zip(together, alone, strict=True):
            close(joint[row : row + 1, :, : frames[row]], single, 1e-5)
        assert not together[0][row, :, frames[row] :].any()


@torch.inference_mode()
def test_masked_group_norm_is_group_norm_of_what_exists() -> None:
    torch.manual_seed(0)
    norm, x = MaskedGroupNorm(4, 12), 3 + torch.randn(2, 12, 30)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    mask = (torch.arange(30) < torch.tensor([[30], [17]]))[:, None].float()
    found = norm(x, mask)
    for row, length in ((0, 30), (1, 17)):
        wanted = torch.nn.functional.group_norm(x[row : row + 1, :, :length], 4, norm.weight, norm.bias)
        close(found[row : row + 1, :, :length].numpy(), wanted.numpy(), 1e-5)
    # The sums of a long row of halves overflow where they are halves themselves.
    long = (30 + torch.randn(1, 12, 5000)).half()
    assert torch.isfinite(norm.half()(long, torch.ones(1, 1, 5000, dtype=torch.half))).all()
