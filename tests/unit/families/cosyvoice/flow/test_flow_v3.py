"""The v3 flow computes the published function, for every row and every chunk alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.flow_helpers import stacked
from support.golden_weights import golden
from support.v3_helpers import random_flow, tiny_config, tiny_flow, tiny_stages
from torch.utils.flop_counter import FlopCounterMode

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.network import FlowEstimator
from tritone.families.cosyvoice.flow.noise import published_noise
from tritone.families.cosyvoice.flow.v3.stages import flow_stages
from tritone.nn.rotary import Rotary, rotate
from tritone.stage import Arrays

STEPS = 2


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
    want = golden(f"flow_s{streaming}_f1", "v3")
    token, cond = golden_arguments(want)
    call = torch_call(tiny_stages().values())
    length = np.array([token.shape[1]], np.int32)
    encoded = call("flow_encoder", speech_token=token, speech_token_len=length, embedding=want["embedding"])
    close(encoded["mu"], want["mu"])
    close(encoded["spks"], want["spks"])
    frames = encoded["mu"].shape[2]
    noise, mask = published_noise()[:, :, :frames], np.ones((1, 1, frames), np.float32)
    chunk = 50 if streaming else cfm.FULL_ATTENTION
    mel = cfm.solve(call, encoded["mu"], encoded["spks"], cond, mask, noise, chunk_size=chunk)
    close(mel[:, :, want["prompt_feat"].shape[1] :], want["mel"])


@pytest.mark.parametrize("streaming", [0, 1])
def test_unfinished_speech_equals_the_published_numbers_in_one_step(streaming: int) -> None:
    want = golden(f"flow_s{streaming}_f0", "v3")
    token, cond = golden_arguments(want)
    stages = tiny_stages()
    call = torch_call(stages.values())
    encoded = call(
        "flow_encoder_chunk",
        speech_token=token,
        speech_token_len=np.array([token.shape[1]], np.int32),
        embedding=want["embedding"],
        **cfm.initial_state(stages["flow_encoder_chunk"]),
    )
    close(encoded["mu"], want["mu"])
    noise = published_noise()[:, :, : encoded["mu"].shape[2]]
    state = cfm.initial_solver_state(stages["flow_estimator_chunk"], steps=10)
    chunk = 50 if streaming else cfm.FULL_ATTENTION
    mel, _ = cfm.solve_chunk(call, encoded["mu"], encoded["spks"], cond, noise, state, chunk_size=chunk)
    close(mel[:, :, want["prompt_feat"].shape[1] :], want["mel"])


@pytest.mark.parametrize(("chunk_size", "name"), [(cfm.FULL_ATTENTION, "out"), (50, "out_streaming")])
def test_estimator_equals_the_published_numbers(chunk_size: int, name: str) -> None:
    want = golden("estimator", "v3")
    inputs = [torch.from_numpy(want[key]) for key in ("x", "mask", "mu", "t", "spks", "cond")]
    with torch.no_grad():
        found = FlowEstimator(tiny_flow())(*inputs, torch.tensor([chunk_size]))
    close(found.numpy(), want[name])
    other = want["out_streaming" if name == "out" else "out"]
    with pytest.raises(AssertionError):
        close(found.numpy(), other, 1e-2)


def test_rotation_turns_neighbouring_channels_and_keeps_distances() -> None:
    cosine, sine = Rotary(4)(3)
    x = torch.tensor([[1.0, 0.0, 0.0, 2.0]]).expand(3, -1)
    angle = torch.arange(3)[:, None] * torch.tensor([1.0, 0.01])
    expected = torch.stack([angle[:, 0].cos(), angle[:, 0].sin(), -2 * angle[:, 1].sin(), 2 * angle[:, 1].cos()], dim=1)
    torch.testing.assert_close(rotate(x, cosine, sine), expected)
    a, b = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))
    cosine, sine = Rotary(64)(40)
    turned = rotate(a.expand(40, -1), cosine, sine) @ rotate(b.expand(40, -1), cosine, sine).T
    torch.testing.assert_close(turned[5, 2], turned[39, 36], rtol=1e-4, atol=1e-4)


def test_the_constant_rates_are_a_part_of_the_network_that_stays_float32() -> None:
    from tritone.nn.precision import halved

    flow = halved(tiny_flow())
    assert flow.decoder.estimator.rotary_embed.inv_freq.dtype == torch.float32
    assert flow.decoder.estimator.proj_out.weight.dtype == torch.float16


@pytest.mark.parametrize("left_chunks", [-1, 1])
@pytest.mark.parametrize("chunk", [4, cfm.FULL_ATTENTION])
def test_ragged_rows_equal_what_they_give_alone(left_chunks: int, chunk: int) -> None:
    config, flow = random_flow(left_chunks, chunk=4)
    call = torch_call(flow_stages(config, lambda: flow))
    rng = np.random.default_rng(1)
    lengths = [19, 7, 2]
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


class Case:
    """Two utterances of one length through the whole and the chunked stages of a random flow."""

    def __init__(self, left_chunks: int, chunk: int, tokens: int) -> None:
        self.config, flow = random_flow(left_chunks, chunk)
        self.stages = {stage.name: stage for stage in flow_stages(self.config, lambda: flow)}
        self.call = torch_call(self.stages.values())
        rng = np.random.default_rng(3)
        self.chunk, self.tokens = chunk, tokens
        self.token = rng.integers(0, self.config.vocab_size, (2, tokens))
        self.embedding = rng.standard_normal((2, self.config.spk_embed_dim)).astype(np.float32)
        self.noise, self.cond = rng.standard_normal((2, 2, 80, 2 * tokens)).astype(np.float32)
        self.cond[:, :, 2 * chunk + 10 :] = 0

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        length = np.full(2, self.tokens, np.int32)
        given = {"speech_token": self.token, "speech_token_len": length, "embedding": self.embedding}
        encoded = self.call("flow_encoder", **given)
        mask = np.ones((2, 1, 2 * self.tokens), np.float32)
        conditions = (encoded["mu"], encoded["spks"], self.cond, mask, self.noise)
        return encoded["mu"], cfm.solve(self.call, *conditions, 2 * self.chunk, steps=STEPS)

    def streamed(self, hop: int) -> tuple[np.ndarray, np.ndarray, list[dict[str, Arrays]], list[int]]:
        """mu, mel, the states after every step of `hop` tokens, and the steps' operations."""
        encoder = cfm.initial_state(self.stages["flow_encoder_chunk"], 2)
        solver = cfm.initial_solver_state(self.stages["flow_estimator_chunk"], STEPS, 2)
        padded = np.pad(self.token, ((0, 0), (0, 3)))
        mus, mels, states, work = [], [], [], []
        for start in range(0, self.tokens, hop):
            stop = min(start + hop, self.tokens)
            frames = np.s_[:, :, 2 * start : 2 * stop]
            with FlopCounterMode(display=False) as counter:
                encoded = self.call(
                    "flow_encoder_chunk",
                    speech_token=padded[:, start : stop + 3],
                    speech_token_len=np.full(2, min(stop + 3, self.tokens) - start, np.int32),
                    embedding=self.embedding,
                    **encoder,
                )
                encoder = cfm.next_state(encoded)
                mel, solver = cfm.solve_chunk(
                    self.call, encoded["mu"], encoded["spks"], self.cond[frames], self.noise[frames], solver,
                    2 * self.chunk, steps=STEPS,
                )  # fmt: skip
            work.append(counter.get_total_flops())
            mus.append(encoded["mu"])
            mels.append(mel)
            states.append({"flow_encoder_chunk": encoder, "flow_estimator_chunk": stacked(solver)})
        return np.concatenate(mus, axis=2), np.concatenate(mels, axis=2), states, work


@pytest.mark.parametrize("left_chunks", [-1, 0, 2])
@pytest.mark.parametrize(("chunk", "hop"), [(5, 5), (5, 10), (20, 20), (25, 75)])
def test_streamed_equals_one_pass(left_chunks: int, chunk: int, hop: int) -> None:
    case = Case(left_chunks, chunk, tokens=5 * hop - 3)
    mu, mel, _, _ = case.streamed(hop)
    for found, expected in zip((mu, mel), case.whole(), strict=True):
        close(found, expected, 1e-5)


def test_the_mask_bounds_what_the_tests_above_compare() -> None:
    bounded, unbounded = Case(0, 25, 100).whole()[1], Case(-1, 25, 100).whole()[1]
    assert np.abs(bounded - unbounded)[:, :, 60:].max() > 1e-3 * np.abs(unbounded).max()


def test_work_and_state_stop_growing_with_bounded_left_context() -> None:
    _, _, states, work = Case(2, 25, tokens=500).streamed(25)
    sizes = [[array.nbytes for state in step.values() for array in state.values()] for step in states]
    assert sizes[0] != sizes[1] and all(size == sizes[1] for size in sizes[1:])
    assert len(work) == 20 and work[0] < work[1] < work[2] and set(work[2:]) == {work[2]}
    growing = Case(-1, 25, tokens=500).streamed(25)[3]
    assert growing[:3] == work[:3] and growing[19] > growing[2]


def test_states_have_the_declared_shapes() -> None:
    case = Case(2, 25, tokens=75)
    last = case.streamed(25)[2][-1]
    for name, steps, axes in (
        ("flow_encoder_chunk", (), {"batch": 2}),
        ("flow_estimator_chunk", (STEPS,), {"rows": 4, "next_past_frames": 100}),
    ):
        declared = {t.name.removeprefix("next_"): t for t in case.stages[name].outputs if t.name.startswith("next_")}
        assert {key: (*steps, *tensor.sizes(axes)) for key, tensor in declared.items()} == {
            key: array.shape for key, array in last[name].items()
        }


def test_the_tiny_flow_streams_its_golden_utterance() -> None:
    """Chunk by chunk on the 25-token grid equals the published pass under the streaming mask."""
    want = golden("flow_s1_f1", "v3")
    token, cond = golden_arguments(want)
    stages = tiny_stages()
    call = torch_call(stages.values())
    encoder = cfm.initial_state(stages["flow_encoder_chunk"])
    solver = cfm.initial_solver_state(stages["flow_estimator_chunk"], tiny_config().flow.steps)
    total, mels = token.shape[1], []
    for start, stop in itertools.pairwise((*range(0, total, 25), total)):
        window = np.zeros((1, stop - start + 3), np.int64)
        given = token[:, start : stop + 3]
        window[:, : given.shape[1]] = given
        length = np.array([given.shape[1]], np.int32)
        encoded = call(
            "flow_encoder_chunk",
            speech_token=window,
            speech_token_len=length,
            embedding=want["embedding"],
            **encoder,
        )
        encoder = cfm.next_state(encoded)
        frames = np.s_[:, :, 2 * start : 2 * stop]
        noise = published_noise()[frames]
        mel, solver = cfm.solve_chunk(call, encoded["mu"], encoded["spks"], cond[frames], noise, solver, 50)
        mels.append(mel)
    close(np.concatenate(mels, axis=2)[:, :, want["prompt_feat"].shape[1] :], want["mel"])
