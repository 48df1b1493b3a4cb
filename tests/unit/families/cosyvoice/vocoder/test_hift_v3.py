"""The causal vocoder of v3: the published numbers, its fixed noise, and streaming that changes nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.golden_weights import golden, tiny_state
from support.v3_helpers import tiny_config, tiny_hift, tiny_stages

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.flow.noise import PublishedUniforms
from tritone.families.cosyvoice.published import V3
from tritone.families.cosyvoice.speak.whole import render, vocode
from tritone.families.cosyvoice.vocoder.receptive_field import f0_reach, vocoder_reach
from tritone.families.cosyvoice.vocoder.source import SteppedSource, excitation, harmonics
from tritone.families.cosyvoice.vocoder.stream import VocoderStream
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.nn.weight_norm import fold_weight_norm
from tritone.stage import Arrays

HOP = 480


@pytest.fixture(scope="module")
def numbers() -> Arrays:
    return golden("hift", "v3")


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@torch.no_grad()
def test_decode_and_f0_equal_published(numbers: Arrays) -> None:
    network = tiny_hift()
    mel, source = torch.from_numpy(numbers["mel"]), torch.from_numpy(numbers["s_f1"])
    for length in (None, torch.tensor([64])):
        assert relative(network.decode(mel, length, source).numpy(), numbers["wav_f1"]) < 1e-5
    assert relative(network.f0_predictor(mel, torch.tensor([64])).numpy(), numbers["f0_f1"]) < 1e-5
    assert relative(fold_weight_norm(network).decode(mel, None, source).numpy(), numbers["wav_f1"]) < 1e-4


@torch.no_grad()
def test_float32_f0_drifts_less_than_a_thousandth_of_a_cycle(numbers: Arrays) -> None:
    """The published network computes f0 in float64; its integral is what the ear would notice."""
    network, mel = tiny_hift().f0_predictor, torch.from_numpy(numbers["mel"])
    single = network(mel).double()
    exact = network.double()(mel.double())
    cycles = ((single - exact) / 24000 * HOP).cumsum(dim=1)
    assert 0 < cycles.abs().max() < 1e-4


def test_noise_is_the_published_table() -> None:
    numbers = golden("hift", "v3")
    offset = tiny_config().hift.noise_offset
    stream = PublishedUniforms(offset)
    assert np.array_equal(stream.take(10, 9), numbers["sine_waves_head"][0, :10])
    assert np.array_equal(stream.take(54, 9), numbers["sine_waves_head"][0, 10:])
    start = PublishedUniforms(offset - 9).take(9)
    assert np.array_equal(start[1:], numbers["rand_ini"][0, 1:])


def test_noise_of_the_full_size_model() -> None:
    """The noise equals the draws of torch after those of the published construction, at the official sizes."""
    generator = torch.Generator().manual_seed(0)
    flow, f0 = V3.flow, V3.hift.f0_channels
    torch.randn(1, 80, 15000, generator=generator)
    torch.nn.init.normal_(torch.empty(flow.vocab_size, flow.input_size), generator=generator)
    layers = [(80, 192), (80,), (f0, 80, 4), (f0,), *[(f0, f0, 3), (f0,)] * 4, (1, f0), (1,), (1, 9)]
    for shape in layers:
        torch.rand(shape, generator=generator)
    expected = torch.rand(1, 4800, 9, generator=generator)[0].numpy()
    assert np.allclose(expected[0, :3], (0.9228, 0.4774, 0.8271), atol=1e-4)
    assert np.array_equal(PublishedUniforms(V3.hift.noise_offset).take(4800, 9), expected)


def test_source_equals_published(numbers: Arrays) -> None:
    state = tiny_state("hift", "v3")
    weight, bias = state["m_source.l_linear.weight"].numpy(), state["m_source.l_linear.bias"].numpy()
    f0 = numbers["f0_f1"][0]
    assert 0 < (f0 > 10).mean() < 1  # otherwise this test would show half of it
    found = np.tanh(weight @ harmonics(f0, tiny_config().hift, seed=5) + bias)
    # The published phase grows unwrapped in float32, which costs it 9e-5 by the end of this second.
    assert relative(found, numbers["s_f1"][0]) < 2e-4


def test_the_difference_is_the_published_rounding_of_phase(numbers: Arrays) -> None:
    """Integrated in float32 as there, the excitation is the published one to the last digits."""
    state, config = tiny_state("hift", "v3"), tiny_config().hift
    f0 = torch.from_numpy(numbers["f0_f1"][0])
    phase = torch.cumsum(f0[:, None] * torch.arange(1, 10) / 24000 % 1, dim=0) * 2 * np.pi * HOP
    cycles = np.broadcast_to((phase.double() / (2 * np.pi) % 1).numpy()[:, None], (64, HOP, 9))
    noise = PublishedUniforms(config.noise_offset).take(64, HOP, 9)
    mixed = excitation(cycles, f0.numpy(), noise, config).reshape(-1, 9).T
    weight, bias = state["m_source.l_linear.weight"].numpy(), state["m_source.l_linear.bias"].numpy()
    assert relative(np.tanh(weight @ mixed + bias), numbers["s_f1"][0]) < 2e-6


@pytest.mark.parametrize("cuts", [[1], [1, 2, 3], [20], list(range(1, 30)), [0, 30]])
def test_cutting_the_source_elsewhere_changes_nothing(cuts: list[int]) -> None:
    f0 = np.abs(np.random.default_rng(0).normal(150, 80, 30)).astype(np.float32)
    source = SteppedSource(tiny_config().hift)
    pieces = [source.push(piece) for piece in np.split(f0, cuts)]
    assert np.array_equal(np.concatenate([*pieces, source.finish()], axis=1), harmonics(f0, tiny_config().hift, 0))
    with pytest.raises(ValueError, match=r"f0 of shape \[frames\], got \[1, 4\]"):
        source.push(np.zeros((1, 4)))


def test_phase_stays_within_a_frame_and_jumps_between() -> None:
    quiet = dataclasses.replace(tiny_config().hift, nsf_sigma=0.0)
    sines = harmonics(np.array([100.0, 150.0]), quiet, 0).reshape(9, 2, HOP)
    assert np.array_equal(sines, np.broadcast_to(sines[..., :1], sines.shape))
    for multiple in (1, 9):
        phase = 2 * np.pi * multiple * HOP * np.array([100.0, 250.0]) / 24000
        np.testing.assert_allclose(sines[multiple - 1, :, 0], 0.1 * np.sin(phase), atol=1e-6)


def test_reach_is_as_small_as_the_layers_allow(numbers: Arrays) -> None:
    """Gradients of one frame's waveform reach the outermost frames of the stated context and nothing beyond."""
    network, frame = tiny_hift().double(), 40
    mel = torch.from_numpy(numbers["mel"]).double().requires_grad_()
    source = torch.from_numpy(numbers["s_f1"]).double().requires_grad_()
    network.decode(mel, None, source)[:, HOP * frame : HOP * (frame + 1)].square().sum().backward()
    from_mel = (mel.grad != 0).any(dim=1)[0].nonzero()[:, 0] - frame
    from_source = (source.grad.reshape(1, -1, HOP).transpose(1, 2) != 0).any(dim=1)[0].nonzero()[:, 0] - frame
    reach = vocoder_reach(tiny_config().hift)
    assert -min(int(from_mel.min()), int(from_source.min())) == reach.left == 29
    assert (int(from_mel.max()), int(from_source.max())) == (reach.right, reach.source_right) == (5, 1)
    mel.grad = None
    network.f0_predictor(mel)[:, frame].sum().backward()
    touched = (mel.grad != 0).any(dim=1)[0].nonzero()[:, 0] - frame
    assert (-int(touched.min()), int(touched.max())) == f0_reach(tiny_config().hift) == (8, 3)


@pytest.mark.parametrize("cuts", [[64], [1] * 64, [7] * 9 + [1], [30, 34]])
def test_streaming_equals_the_published_waveform(numbers: Arrays, cuts: list[int]) -> None:
    stages = tiny_stages()
    widths: list[int] = []
    call = torch_call(stages.values())

    def counting(name: str, **arrays: np.ndarray) -> Arrays:
        if name == "vocoder":
            widths.append(arrays["mel"].shape[2])
        return call(name, **arrays)

    stream, waves, done = VocoderStream(counting, tiny_config().hift, seed=3), [], 0
    for count in cuts:
        waves.append(stream.push(numbers["mel"][:, :, done : done + count]))
        done += count
        # Five frames of delay, where the published code has eight.
        assert sum(map(len, waves)) == max(0, done - 5) * HOP
    waves.append(stream.push(numbers["mel"][:, :, :0], last=True))
    assert relative(np.concatenate(waves)[None], numbers["wav_f1"]) < 1e-4
    assert max(widths) <= max(cuts) + 29 + 5


def test_unfinished_waveform_is_a_prefix_as_published(numbers: Arrays) -> None:
    """The published `finalize=False` keeps eight frames back; every sample before them is final here, too."""
    call = torch_call(tiny_stages().values())
    stream = VocoderStream(call, tiny_config().hift, seed=0)
    wave = stream.push(numbers["mel"])
    kept = numbers["wav_f0"].shape[1]
    assert kept == (64 - 8) * HOP and wave.shape[0] >= kept
    assert relative(wave[None, :kept], numbers["wav_f0"]) < 1e-4
    (whole,) = vocode(call, tiny_config().hift, [numbers["mel"]], [0])
    assert relative(wave, whole[: len(wave)]) < 1e-5


def test_a_published_utterance_from_its_tokens() -> None:
    """Tokens to mel to sound, as recorded from a whole zero-shot request; v3 draws nothing at random."""
    known = golden("e2e_zero_shot", "v3")
    call, config = torch_call(tiny_stages().values()), tiny_config()
    voice = Voice(
        "reference",
        known["flow_embedding"][0],
        speech_token=known["flow_prompt_token"][0].astype(np.int64),
        mel=known["flow_prompt_feat"][0],
    )
    (mel,) = render(call, config, [(known["flow_token"][0].tolist(), voice)])
    assert relative(mel, known["flow_mel"]) < 1e-5
    assert relative(vocode(call, config.hift, [mel], [0])[0][None], known["wav"]) < 5e-4


@torch.no_grad()
def test_ragged_batch_gives_each_row_what_it_gives_alone(numbers: Arrays) -> None:
    network, lengths = tiny_hift(), [64, 7, 33, 5]
    mel = torch.from_numpy(numbers["mel"]).repeat(4, 1, 1) + 5.0  # whatever is in the padding must not matter
    source = torch.from_numpy(numbers["s_f1"]).repeat(4, 1, 1)
    wave = network.decode(mel, torch.tensor(lengths), source)
    f0 = network.f0_predictor(mel, torch.tensor(lengths))
    for row, frames in enumerate(lengths):
        alone = network.decode(mel[row : row + 1, :, :frames], None, source[row : row + 1, :, : HOP * frames])
        assert (wave[row, : HOP * frames] - alone[0]).abs().max() < 1e-5
        assert wave[row, HOP * frames :].abs().sum() == 0
        assert (f0[row, :frames] - network.f0_predictor(mel[row : row + 1, :, :frames])[0]).abs().max() < 1e-3
