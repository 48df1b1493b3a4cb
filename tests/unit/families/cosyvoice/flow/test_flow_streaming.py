"""Chunk by chunk with carried state equals one pass under the streaming mask, at constant cost per chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.flow_helpers import random_flow, stacked

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.v2.stages import flow_stages
from tritone.nn.attention import attention_bias, shift_distances
from tritone.stage import Arrays

STEPS = 2


class Case:
    """Two utterances of one length with known mel at the front, through the whole and the chunked stages."""

    def __init__(self, left_chunks: int, chunk: int, tokens: int, known: int) -> None:
        self.config, flow = random_flow(left_chunks, chunk)
        self.stages = {stage.name: stage for stage in flow_stages(self.config, lambda: flow)}
        self.call = torch_call(self.stages.values())
        rng = np.random.default_rng(3)
        self.chunk, self.tokens = chunk, tokens
        self.token = rng.integers(0, self.config.vocab_size, (2, tokens))
        self.embedding = rng.standard_normal((2, self.config.spk_embed_dim)).astype(np.float32)
        self.noise, self.cond = rng.standard_normal((2, 2, 80, 2 * tokens)).astype(np.float32)
        self.cond[:, :, known:] = 0

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        encoded = self.call(
            "flow_encoder",
            speech_token=self.token,
            speech_token_len=np.full(2, self.tokens, np.int32),
            embedding=self.embedding,
            chunk_size=np.array([self.chunk]),
        )
        mask = np.ones((2, 1, 2 * self.tokens), np.float32)
        mel = cfm.solve(
            self.call, encoded["mu"], encoded["spks"], self.cond, mask, self.noise, 2 * self.chunk, steps=STEPS
        )
        return encoded["mu"], mel

    def streamed(self, hop: int) -> tuple[np.ndarray, np.ndarray, list[dict[str, Arrays]]]:
        """mu, mel, and the states after every step of `hop` tokens."""
        encoder = cfm.initial_state(self.stages["flow_encoder_chunk"], 2)
        solver = cfm.initial_solver_state(self.stages["flow_estimator_chunk"], STEPS, 2)
        padded = np.pad(self.token, ((0, 0), (0, 3)))
        mus, mels, states = [], [], []
        for start in range(0, self.tokens, hop):
            stop = min(start + hop, self.tokens)
            encoded = self.call(
                "flow_encoder_chunk",
                speech_token=padded[:, start : stop + 3],
                speech_token_len=np.full(2, min(stop + 3, self.tokens) - start, np.int32),
                embedding=self.embedding,
                chunk_size=np.array([self.chunk]),
                **encoder,
            )
            encoder = cfm.next_state(encoded)
            frames = np.s_[:, :, 2 * start : 2 * stop]
            mel, solver = cfm.solve_chunk(
                self.call, encoded["mu"], encoded["spks"], self.cond[frames], self.noise[frames], solver,
                2 * self.chunk, steps=STEPS,
            )  # fmt: skip
            mus.append(encoded["mu"])
            mels.append(mel)
            states.append({"flow_encoder_chunk": encoder, "flow_estimator_chunk": stacked(solver)})
        return np.concatenate(mus, axis=2), np.concatenate(mels, axis=2), states


@pytest.mark.parametrize("left_chunks", [-1, 0, 2])
@pytest.mark.parametrize(("chunk", "hop"), [(25, 25), (25, 50), (25, 75), (50, 50), (75, 75)])
def test_streamed_equals_one_pass(left_chunks: int, chunk: int, hop: int) -> None:
    case = Case(left_chunks, chunk, tokens=5 * hop - 12, known=2 * chunk + 10)
    mu, mel, _ = case.streamed(hop)
    for found, expected in zip((mu, mel), case.whole(), strict=True):
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_mask_bounds_what_the_tests_above_compare() -> None:
    bounded, unbounded = Case(0, 25, 100, 0).whole()[1], Case(-1, 25, 100, 0).whole()[1]
    assert np.abs(bounded - unbounded)[:, :, 60:].max() > 1e-3 * np.abs(unbounded).max()


def test_state_stops_growing_with_bounded_left_context() -> None:
    _, _, states = Case(2, 25, tokens=150, known=0).streamed(25)
    past = [
        tuple(array.shape[-2] for arrays in state.values() for name, array in arrays.items() if "att" in name)
        for state in states
    ]
    assert past == [(25, 50, 50)] + [(50, 100, 100)] * 5


@pytest.mark.parametrize(
    ("name", "steps", "axes"),
    [
        ("flow_encoder_chunk", (), {"batch": 2, "next_past_tokens": 50}),
        ("flow_estimator_chunk", (STEPS,), {"rows": 4, "next_past_frames": 100}),
    ],
)
def test_states_have_the_declared_shapes(name: str, steps: tuple[int, ...], axes: dict[str, int]) -> None:
    case = Case(2, 25, tokens=50, known=0)
    state = case.streamed(25)[2][-1][name]
    declared = {t.name.removeprefix("next_"): t for t in case.stages[name].outputs if t.name.startswith("next_")}
    assert {key: (*steps, *tensor.sizes(axes)) for key, tensor in declared.items()} == {
        key: array.shape for key, array in state.items()
    }


def test_bias_hides_later_chunks_distant_chunks_and_padding() -> None:
    valid = torch.arange(6)[None] < torch.tensor([[6], [5]])
    bias = attention_bias(4, 2, torch.tensor([2]), 1, valid)
    assert bias.shape == (2, 1, 4, 6)
    expected = [[1, 1, 1, 1, 0, 0]] * 2 + [[0, 0, 1, 1, 1, 1]] * 2
    assert (bias[0, 0] == 0).int().tolist() == expected
    assert (bias[1, 0] == 0).int().tolist() == [[*row[:5], 0] for row in expected]


def test_shift_selects_the_score_of_each_distance() -> None:
    queries, past = 3, 2
    distances = torch.arange(past + queries - 1, -queries, -1).float()
    found = shift_distances(distances.expand(1, 1, queries, -1), past + queries)[0, 0]
    expected = past + torch.arange(queries)[:, None] - torch.arange(past + queries)[None]
    assert torch.equal(found, expected.float())
