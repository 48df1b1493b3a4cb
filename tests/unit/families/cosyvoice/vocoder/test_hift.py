"""The HiFT vocoder against the published implementation's numbers, ragged batches, windows and weight norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden_weights import golden, tiny_state

from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.vocoder.hift import Hift
from tritone.families.cosyvoice.vocoder.receptive_field import context_frames, f0_context_frames
from tritone.families.cosyvoice.vocoder.stages import vocoder_stages
from tritone.nn.stft import InverseStft, Stft
from tritone.nn.weight_norm import fold_weight_norm

TINY = HiftConfig(base_channels=32, f0_channels=32)


def load_tiny() -> Hift:
    network = Hift(TINY)
    network.load_state_dict(tiny_state("hift"))
    return network.eval()


@pytest.fixture(scope="module")
def tiny() -> Hift:
    return load_tiny()


@pytest.fixture(scope="module")
def numbers() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in golden("hift").items()}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(("mel", "source", "wave"), [("mel", "s", "wav"), ("mel2", "s2", "wav2")])
@torch.no_grad()
def test_decode_equals_published(
    tiny: Hift, numbers: dict[str, torch.Tensor], mel: str, source: str, wave: str
) -> None:
    frames = torch.tensor([numbers[mel].shape[2]])
    assert relative(tiny.decode(numbers[mel], frames, numbers[source]), numbers[wave]) < 1e-4
    assert relative(tiny.decode(numbers[mel], None, numbers[source]), numbers[wave]) < 1e-4


@torch.no_grad()
def test_f0_equals_published(tiny: Hift, numbers: dict[str, torch.Tensor]) -> None:
    assert relative(tiny.f0_predictor(numbers["mel"], torch.tensor([64])), numbers["f0"]) < 1e-4


def test_official_keys_and_shapes_load_strictly() -> None:
    assert {k: tuple(v.shape) for k, v in Hift(TINY).state_dict().items()} == {
        k: tuple(v.shape) for k, v in tiny_state("hift").items()
    }


@torch.no_grad()
def test_old_weight_norm_layout_loads(tiny: Hift) -> None:
    old = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in tiny_state("hift").items()
    }
    assert "ups.0.weight_g" in old
    network = Hift(TINY)
    network.load_state_dict(old)
    assert all(torch.equal(value, tiny.state_dict()[key]) for key, value in network.state_dict().items())


@torch.no_grad()
def test_folding_keeps_the_function(numbers: dict[str, torch.Tensor]) -> None:
    folded = fold_weight_norm(load_tiny())
    assert not any("original" in key for key in folded.state_dict())
    gain, direction = (tiny_state("hift")[f"ups.0.parametrizations.weight.original{i}"] for i in (0, 1))
    expected = gain * direction / direction.flatten(1).norm(dim=1)[:, None, None]
    assert torch.allclose(folded.ups[0].weight, expected, atol=1e-6)
    assert relative(folded.decode(numbers["mel"], None, numbers["s"]), numbers["wav"]) < 1e-4


@torch.no_grad()
def test_ragged_batch_gives_each_row_what_it_gives_alone(tiny: Hift, numbers: dict[str, torch.Tensor]) -> None:
    lengths = [64, 7, 33, 4]
    mel = numbers["mel"].repeat(4, 1, 1) + 5.0  # whatever is in the padding must not matter
    source = numbers["s"].repeat(4, 1, 1)
    wave = tiny.decode(mel, torch.tensor(lengths), source)
    f0 = tiny.f0_predictor(mel, torch.tensor(lengths))
    for row, frames in enumerate(lengths):
        alone = tiny.decode(mel[row : row + 1, :, :frames], None, source[row : row + 1, :, : 480 * frames])
        assert (wave[row, : 480 * frames] - alone[0]).abs().max() < 1e-5
        assert wave[row, 480 * frames :].abs().sum() == 0
        assert (f0[row, :frames] - tiny.f0_predictor(mel[row : row + 1, :, :frames])[0]).abs().max() < 1e-3
        assert f0[row, frames:].abs().sum() == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (20, 24), (37, 50), (59, 64)])
@torch.no_grad()
def test_window_with_context_equals_the_whole(
    tiny: Hift, numbers: dict[str, torch.Tensor], start: int, stop: int
) -> None:
    context = context_frames(TINY)
    whole = tiny.decode(numbers["mel"], None, numbers["s"])
    low, high = max(0, start - context), min(64, stop + context)
    window = tiny.decode(numbers["mel"][..., low:high], None, numbers["s"][..., 480 * low : 480 * high])
    kept = window[:, 480 * (start - low) : 480 * (stop - low)]
    assert (kept - whole[:, 480 * start : 480 * stop]).abs().max() < 1e-5

    low, high = max(0, start - f0_context_frames()), min(64, stop + f0_context_frames())
    f0 = tiny.f0_predictor(numbers["mel"][..., low:high])[:, start - low : stop - low]
    assert relative(f0, tiny.f0_predictor(numbers["mel"])[:, start:stop]) < 1e-5


def test_context_is_as_small_as_the_layers_allow(numbers: dict[str, torch.Tensor]) -> None:
    """The gradient of one frame's waveform reaches the outermost frames of the stated context and nothing beyond."""
    network = load_tiny().double()
    mel = numbers["mel"].double().requires_grad_()
    source = numbers["s"].double().requires_grad_()
    network.decode(mel, None, source)[:, 480 * 32 : 480 * 33].square().sum().backward()
    reach = torch.zeros(64)
    for gradient in (mel.grad, source.grad.reshape(1, 64, 480).transpose(1, 2)):
        reach += (gradient != 0).any(dim=1)[0]
    touched = reach.nonzero()[:, 0]
    context = context_frames(TINY)
    assert touched.min() >= 32 - context and touched.max() <= 32 + context
    assert max(32 - touched.min(), touched.max() - 32) == context


@pytest.mark.parametrize(("n_fft", "hop"), [(16, 4), (32, 8)])
def test_stft_pair_equals_torch(n_fft: int, hop: int) -> None:
    signal = torch.randn(2, 40 * hop, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(n_fft)
    wanted = torch.stft(signal, n_fft, hop, n_fft, window=window, center=True, return_complex=True)
    found = Stft(n_fft, hop)(signal)
    assert (found - torch.cat([wanted.real, wanted.imag], dim=1)).abs().max() < 1e-5
    again = InverseStft(n_fft, hop)(wanted.abs(), wanted.angle())
    assert (again - signal).abs().max() < 1e-5


def test_stages_describe_what_they_compute() -> None:
    for stage in vocoder_stages(TINY, load_tiny):
        axes = {"batch": 2, "mel_frames": 9}
        inputs = stage.example(axes)
        module = stage.build()
        assert not any("original" in key for key in module.state_dict())
        with torch.no_grad():
            output = module(*(torch.from_numpy(inputs[tensor.name]) for tensor in stage.inputs))
        assert tuple(output.shape) == stage.outputs[0].sizes(axes)
        assert output.numpy().dtype == np.float32
