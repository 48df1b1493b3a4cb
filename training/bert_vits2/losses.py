"""Losses of Bert-VITS2 besides those on waveforms: on latents, judged durations and WavLM features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.core.losses import discriminator_loss, generator_loss


def kl_loss(z_p: Tensor, logs_q: Tensor, m_p: Tensor, logs_p: Tensor, mask: Tensor) -> Tensor:
    """Return the divergence of the posterior from the prior per frame (VITS, equation 3), estimated from one sample.

    Args:
        z_p: a sample of the posterior mapped to the prior by the flow, `[batch, channels, frames]`.
        logs_q: log deviation of the posterior, in the same shape.
        m_p, logs_p: mean and log deviation of the prior, in the same shape.
        mask: `[batch, 1, frames]`, 1 where a frame exists.
    """
    z_p, logs_q, m_p, logs_p, mask = (x.float() for x in (z_p, logs_q, m_p, logs_p, mask))
    distance = logs_p - logs_q - 0.5 + 0.5 * (z_p - m_p).square() * torch.exp(-2.0 * logs_p)
    return (distance * mask).sum() / mask.sum()


def duration_discriminator_loss(real: Tensor, fake: Sequence[Tensor], mask: Tensor, published: bool = False) -> Tensor:
    """Return the least-squares loss: durations of the alignment towards 1, of each predictor towards 0, per phone.

    `published` is the loss of version 2.3: it adds the predictors' probabilities before comparing them, so that the
    optimum of a real duration is one half; it includes padding, and it sums over rows, so it grows with the batch.

    Args:
        real: probabilities of the aligned durations, `[batch, phones, 1]`.
        fake: probabilities of each predictor's durations, in the same shape.
        mask: `[batch, 1, phones]`, 1 where a phone exists.
    """
    if published:
        return discriminator_loss(list(len(fake) * real), list(torch.stack(list(fake)).sum(0)))
    pairs = [_mean((1 - real.float()).square(), mask) + _mean(f.float().square(), mask) for f in fake]
    return torch.stack(pairs).sum()


def duration_generator_loss(fake: Sequence[Tensor], mask: Tensor, published: bool = False) -> Tensor:
    """Return the least-squares loss of each predictor's durations towards 1, as `duration_discriminator_loss`."""
    if published:
        return generator_loss(list(torch.stack(list(fake)).sum(0)))
    return torch.stack([_mean((1 - f.float()).square(), mask) for f in fake]).sum()


def wavlm_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean distance of hidden states `[batch, layers, frames, hidden]`, summed over layers."""
    return (real.detach().float() - fake.float()).abs().mean(dim=(0, 2, 3)).sum()


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `[batch, phones, 1]` over existing phones."""
    inside = mask.mT.float()
    return (values * inside).sum() / inside.sum()
