"""Losses of Bert-VITS2 beside those on waveforms: latents, durations as a judge sees them, and what WavLM hears."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.core.losses import discriminator_loss, generator_loss


def kl_loss(z_p: Tensor, logs_q: Tensor, m_p: Tensor, logs_p: Tensor, mask: Tensor) -> Tensor:
    """Return how far the posterior's frames are from the prior's, per frame (VITS, equation 3); one sample each.

    Args:
        z_p: posterior frames taken through the flow; logs_q, m_p, logs_p: log deviations of posterior and prior, mean
            of the prior; all `[batch, channels, frames]`. mask: `[batch, 1, frames]`.
    """
    z_p, logs_q, m_p, logs_p, mask = (x.float() for x in (z_p, logs_q, m_p, logs_p, mask))
    distance = logs_p - logs_q - 0.5 + 0.5 * (z_p - m_p).square() * torch.exp(-2.0 * logs_p)
    return (distance * mask).sum() / mask.sum()


def duration_discriminator_loss(real: Tensor, fake: Sequence[Tensor], mask: Tensor, published: bool = False) -> Tensor:
    """Least squares: durations of the alignment towards 1, of each predictor towards 0, over the phones that exist.

    `published` is what version 2.3 minimises instead: the predictors' probabilities are added before they are judged,
    so that a real duration is best at one half, padding counts, and rows are summed, so that it grows with the batch.

    Args:
        real, fake: probabilities `[batch, phones, 1]`; one `fake` for each predictor. mask: `[batch, 1, phones]`.
    """
    if published:
        return discriminator_loss(list(len(fake) * real), list(torch.stack(list(fake)).sum(0)))
    pairs = [_mean((1 - real.float()).square(), mask) + _mean(f.float().square(), mask) for f in fake]
    return torch.stack(pairs).sum()


def duration_generator_loss(fake: Sequence[Tensor], mask: Tensor, published: bool = False) -> Tensor:
    """Least squares: durations of each predictor towards 1; arguments as for `duration_discriminator_loss`."""
    if published:
        return generator_loss(list(torch.stack(list(fake)).sum(0)))
    return torch.stack([_mean((1 - f.float()).square(), mask) for f in fake]).sum()


def wavlm_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return mean distance of hidden states `[batch, layers, frames, hidden]`, summed over layers."""
    return (real.detach().float() - fake.float()).abs().mean(dim=(0, 2, 3)).sum()


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return mean of `[batch, phones, 1]` over the phones that exist."""
    inside = mask.mT.float()
    return (values * inside).sum() / inside.sum()
