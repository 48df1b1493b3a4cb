"""Losses of Bert-VITS2: published numbers, the duration loss as published and as meant, and the mel it compares in."""

from __future__ import annotations

import pytest
import torch
from support.bert_vits2.tiny import arrays, peak_error
from torch import Tensor

from training.bert_vits2.gan_step import mel_of
from training.bert_vits2.losses import (
    duration_discriminator_loss,
    duration_generator_loss,
    kl_loss,
    wavlm_loss,
)
from training.core.losses import discriminator_loss, generator_loss
from tritone.families.bert_vits2.config import DataConfig
from tritone.nn.stft import length_mask

GOLDEN = arrays("judges")
MASK = torch.tensor([[[1.0] * 5], [[1.0] * 3 + [0.0] * 2]])


def probabilities(seed: int, rows: int = 2) -> Tensor:
    return torch.rand(rows, 5, 1, generator=torch.Generator().manual_seed(seed))


def test_losses_on_waves_are_the_published_ones() -> None:
    real, fake = ([GOLDEN[f"d_{kind}{n}"] for n in range(6)] for kind in "rg")
    assert float(discriminator_loss(real, fake)) == pytest.approx(float(GOLDEN["loss_disc"]), rel=1e-5)
    assert float(generator_loss(fake)) == pytest.approx(float(GOLDEN["loss_gen"]), rel=1e-5)


def test_published_duration_losses() -> None:
    real, fake, mask = GOLDEN["dur_real"], [GOLDEN["dur_fake"]] * 2, torch.ones(2, 1, 13)
    judged = duration_discriminator_loss(real, fake, mask, published=True)
    assert float(judged) == pytest.approx(float(GOLDEN["loss_dur_disc_upstream"]), rel=1e-5)
    fooled = duration_generator_loss(fake, mask, published=True)
    assert float(fooled) == pytest.approx(float(GOLDEN["loss_dur_gen_upstream"]), rel=1e-4)


def test_what_each_duration_loss_is_smallest_at() -> None:
    zero, half, one = (torch.full((2, 5, 1), value) for value in (0.0, 0.5, 1.0))
    assert float(duration_discriminator_loss(one, [zero, zero], MASK)) == 0
    assert float(duration_generator_loss([one, one], MASK)) == 0
    assert float(duration_discriminator_loss(half, [zero, zero], MASK)) == pytest.approx(0.5)
    assert float(duration_discriminator_loss(half, [zero, zero], MASK, published=True)) == 0
    assert float(duration_generator_loss([half, half], MASK, published=True)) == 0


def test_the_fixed_loss_counts_each_predictor_by_itself() -> None:
    real, first, second = probabilities(0, 1), probabilities(1, 1), probabilities(2, 1)
    found = duration_discriminator_loss(real, [first, second], MASK[:1])
    assert found == pytest.approx(discriminator_loss([real, real], [first, second]))
    assert duration_generator_loss([first, second], MASK[:1]) == pytest.approx(generator_loss([first, second]))


def test_padding_and_repeated_rows_do_not_change_the_fixed_loss() -> None:
    real, fake = probabilities(0), [probabilities(1), probabilities(2)]
    judged, fooled = duration_discriminator_loss(real, fake, MASK), duration_generator_loss(fake, MASK)
    spoiled = [torch.where(MASK.mT > 0, p, torch.full_like(p, 9.0)) for p in (real, *fake)]
    torch.testing.assert_close(duration_discriminator_loss(spoiled[0], spoiled[1:], MASK), judged)
    torch.testing.assert_close(duration_generator_loss(spoiled[1:], MASK), fooled)
    twice, mask = [torch.cat([p, p]) for p in (real, *fake)], torch.cat([MASK, MASK])
    torch.testing.assert_close(duration_discriminator_loss(twice[0], twice[1:], mask), judged)
    published = duration_discriminator_loss(real, fake, MASK, published=True)
    torch.testing.assert_close(duration_discriminator_loss(twice[0], twice[1:], mask, published=True), 2 * published)


def test_kl_is_the_published_one() -> None:
    passed, golden = arrays("training_pass"), arrays("train_step")
    mask = length_mask(passed["spec_lengths"], passed["spec"])
    latents = [passed[name] for name in ("z_p", "logs_q", "m_p", "logs_p")]
    found = kl_loss(*latents, mask)
    assert float(found) == pytest.approx(float(golden["s0_loss_kl"]), rel=1e-5)
    spoiled = [x + 5 * (1 - mask) for x in latents]
    assert float(kl_loss(*spoiled, mask)) == pytest.approx(float(found))


def test_kl_of_samples_is_that_of_the_distributions() -> None:
    torch.manual_seed(0)
    shape, spread = (1, 1, 200000), 0.5
    z = 0.3 + spread * torch.randn(shape)
    m_p, logs_p, logs_q = torch.full(shape, 1.0), torch.full(shape, 0.2), torch.full(shape, spread).log()
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(0.3, spread), normal(1.0, torch.tensor(0.2).exp()))
    assert float(kl_loss(z, logs_q, m_p, logs_p, torch.ones(shape))) == pytest.approx(float(expected), rel=0.01)


def test_wavlm_loss_sums_layers_and_moves_the_copy_alone() -> None:
    real, fake = torch.zeros(2, 4, 6, 8, requires_grad=True), torch.full((2, 4, 6, 8), 0.5, requires_grad=True)
    loss = wavlm_loss(real, fake)
    assert loss.item() == pytest.approx(4 * 0.5)
    loss.backward()
    assert real.grad is None and fake.grad is not None


def test_mel_of_44100_hz_is_the_published_one() -> None:
    golden, mel = arrays("mel"), mel_of(DataConfig())
    whole = mel(golden["wave"])
    assert whole.shape == (1, 128, 21)
    torch.testing.assert_close(whole[:, :, :18], golden["mel_from_wave"], rtol=0, atol=1e-4)
    assert peak_error(mel.linear(golden["wave"])[:, :, :4], golden["linear"]) < 1e-5
    torch.testing.assert_close(mel.of_linear(mel.linear(golden["wave"])), whole)
    torch.testing.assert_close(mel.of_linear(golden["linear"]), golden["mel"][:, :, :4], rtol=0, atol=1e-4)
