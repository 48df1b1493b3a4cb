"""The stochastic duration predictor: a flow over durations (VITS, section 2.2.2 and appendix A).

A posterior dequantises whole durations and pairs them with a second variable, and a flow of splines scores the pair.
In the other direction, the flow turns noise into log durations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.bert_vits2.networks.encoder import ChannelNorm
from tritone.families.bert_vits2.networks.spline import spline

KERNEL, DROPOUT = 3, 0.5
DEPTH, COUPLINGS = 3, 4
BINS, BOUND = 10, 5.0


class SeparableStack(nn.Module):
    """Residual layers of dilated depthwise and pointwise convolutions on `[batch, channels, phones]`."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.convs_sep = nn.ModuleList(
            nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2 * KERNEL**i, dilation=KERNEL**i, groups=channels)
            for i in range(DEPTH)
        )
        self.convs_1x1 = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(DEPTH))
        self.norms_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(DEPTH))
        self.norms_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(DEPTH))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        layers = zip(self.convs_sep, self.norms_1, self.convs_1x1, self.norms_2)  # noqa: B905 (scripted)
        for depthwise, norm_1, pointwise, norm_2 in layers:
            hidden = F.gelu(norm_1(depthwise(x * mask)))
            x = x + self.drop(F.gelu(norm_2(pointwise(hidden))))
        return x * mask


class Affine(nn.Module):
    """Shifts and scales each channel of the pair `[batch, 2, phones]`."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(2, 1))
        self.logs = nn.Parameter(torch.zeros(2, 1))

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Return the inverse, the only direction that synthesis needs."""
        return (z - self.m) * torch.exp(-self.logs) * mask

    def scored(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transform and its log-determinant `[batch]`."""
        return (self.m + self.logs.exp() * z) * mask, (self.logs * mask).sum(dim=(1, 2))


class SplineCoupling(nn.Module):
    """Applies a spline to the second of two channels; the first channel and the text decide its shape.

    The initial weights are linear.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.scale, self.bins, self.bound = hidden**-0.5, BINS, BOUND
        self.pre = nn.Conv1d(1, hidden, 1)
        self.convs = SeparableStack(hidden, 0.0)
        self.proj = nn.Conv1d(hidden, 3 * BINS - 1, 1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, mask: Tensor, text: Tensor) -> Tensor:
        """Return the inverse, the only direction that synthesis needs."""
        return self.bend(z, mask, text, True)[0]

    def scored(self, z: Tensor, mask: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transform and its log-determinant `[batch]`."""
        z, log_slope = self.bend(z, mask, text, False)
        return z, log_slope.sum(dim=(1, 2))

    def bend(self, z: Tensor, mask: Tensor, text: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        kept, bent = z[:, :1], z[:, 1:]
        shape = (self.proj(self.convs(self.pre(kept) + text, mask)) * mask).transpose(1, 2)[:, None]
        bent, log_slope = spline(
            bent,
            shape[..., : self.bins] * self.scale,
            shape[..., self.bins : 2 * self.bins] * self.scale,
            shape[..., 2 * self.bins :],
            self.bound,
            inverse,
        )
        return torch.cat((kept, bent.to(kept.dtype)), dim=1) * mask, log_slope * mask


class StochasticDurationPredictor(nn.Module):
    """Maps encoded phones and noise to log durations; keys as in published checkpoints.

    Its gradients reach neither the text encoder nor the speaker: both inputs are detached.
    """

    def __init__(self, hidden: int, gin: int) -> None:
        super().__init__()
        self.flows = _couplings(hidden)
        self.post_pre = nn.Conv1d(1, hidden, 1)
        self.post_proj = nn.Conv1d(hidden, hidden, 1)
        self.post_convs = SeparableStack(hidden, DROPOUT)
        self.post_flows = _couplings(hidden)
        self.pre = nn.Conv1d(hidden, hidden, 1)
        self.proj = nn.Conv1d(hidden, hidden, 1)
        self.convs = SeparableStack(hidden, DROPOUT)
        self.cond = nn.Conv1d(gin, hidden, 1)

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor, g: Tensor) -> Tensor:
        """Return log durations `[batch, 1, phones]`, 0 past a row's end.

        The coupling next to the data is left out, as in the published sampler: it was trained on the channel that is
        discarded.

        Args:
            x: encoded phones, `[batch, hidden, phones]`.
            mask: `[batch, 1, phones]`, 1 where a phone exists.
            noise: normal, `[batch, 2, phones]`; its deviation is the temperature.
            g: speaker, `[batch, gin, 1]`.
        """
        text = self.condition(x, mask, g)
        z = noise
        # `forward` by name, because elements of a slice cannot be called when scripted.
        for coupling in self.flows[-2:1:-2]:
            z = coupling.forward(z.flip(1), mask, text)
        return self.flows[0].forward(z.flip(1), mask)[:, :1]

    def negative_log_likelihood(self, x: Tensor, mask: Tensor, duration: Tensor, noise: Tensor, g: Tensor) -> Tensor:
        """Return an upper bound of -log p(duration), summed over phones, `[batch]`.

        Args:
            duration: frames of each phone, `[batch, 1, phones]`.
            noise: standard normal, `[batch, 2, phones]`.
        """
        text = self.condition(x, mask, g)
        hidden = self.post_convs(self.post_pre(duration), mask)
        noise = noise * mask
        pair, posterior = _scored(self.post_flows, noise, mask, text + self.post_proj(hidden) * mask)
        raw, second = pair[:, :1].float(), pair[:, 1:]
        first = (duration - torch.sigmoid(raw) * mask) * mask
        posterior = posterior + ((F.logsigmoid(raw) + F.logsigmoid(-raw)) * mask).sum(dim=(1, 2))
        log_q = -_energy(noise, mask) - posterior
        logarithm = torch.log(first.clamp(min=1e-5)) * mask
        z, prior = _scored(self.flows, torch.cat((logarithm, second), dim=1), mask, text)
        return _energy(z, mask) - (prior - logarithm.sum(dim=(1, 2))) + log_q

    def condition(self, x: Tensor, mask: Tensor, g: Tensor) -> Tensor:
        """Return the conditioning of the couplings on text and speaker, `[batch, hidden, phones]`."""
        x = self.pre(x.detach()) + self.cond(g.detach())
        return self.proj(self.convs(x, mask)) * mask


def _couplings(hidden: int) -> nn.ModuleList:
    """Return the layers of one flow; the published list also counts the exchange of channels after each coupling."""
    layers: list[nn.Module] = [Affine()]
    for _ in range(COUPLINGS):
        layers += [SplineCoupling(hidden), nn.Identity()]
    return nn.ModuleList(layers)


def _scored(flows: nn.ModuleList, z: Tensor, mask: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output of a flow and its log-determinant `[batch]`."""
    z, total = flows[0].scored(z, mask)  # type: ignore[operator]
    for coupling in flows[1::2]:
        z, log_determinant = coupling.scored(z, mask, text)  # type: ignore[operator]
        z, total = z.flip(1), total + log_determinant
    return z, total


def _energy(z: Tensor, mask: Tensor) -> Tensor:
    """Return -log N(z; 0, 1) summed over existing phones, `[batch]`."""
    return (0.5 * (math.log(2 * math.pi) + z.float().square()) * mask).sum(dim=(1, 2))
