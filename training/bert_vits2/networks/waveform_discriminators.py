"""Discriminators of waveforms in the published sizes: one of the wave itself, and one for each of five periods.

Source: Kong et al., "HiFi-GAN" (2020), with a single scale as in VITS (Kim et al., 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from training.core.discriminators import SLOPE, fold
from tritone.nn.weight_norm import weight_norm

PERIODS = (2, 3, 5, 7, 11)
WIDTHS = (32, 128, 512, 1024, 1024)
"""Channels of the layers of a period's discriminator."""

Judgement = tuple[list[Tensor], list[list[Tensor]]]
"""Scores `[batch, places]` of each judge, and the outputs of all its layers, the scores last."""


class ConvJudge(nn.Module):
    """Weight-normalised convolutions with leaky ReLUs between them; `conv_post` gives one channel of scores."""

    def __init__(self, convs: Sequence[nn.Module], conv_post: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList(weight_norm(conv) for conv in convs)
        self.conv_post = weight_norm(conv_post)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return scores `[batch, places]` and the output of every layer, from `[batch, channels, ...]`."""
        layers = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            layers.append(x)
        scores = self.conv_post(x)
        return scores.flatten(1), [*layers, scores]


def scale_judge(shrink: int = 1) -> ConvJudge:
    """Return the judge of waves `[batch, 1, samples]`, with one score per 256 samples."""
    widths = [width // shrink for width in (16, 64, 256, 1024, 1024)]
    strided = zip(pairwise(widths), (4, 16, 64, 256), strict=True)
    return ConvJudge(
        [
            nn.Conv1d(1, widths[0], 15, 1, 7),
            *(nn.Conv1d(a, b, 41, 4, 20, groups=max(1, groups // shrink)) for (a, b), groups in strided),
            nn.Conv1d(widths[-1], widths[-1], 5, 1, 2),
        ],
        nn.Conv1d(widths[-1], 1, 3, 1, 1),
    )


def period_judge(shrink: int = 1) -> ConvJudge:
    """Return a judge of waves folded to `[batch, 1, samples / period, period]`, with convolutions along time alone."""
    strides = (3, 3, 3, 3, 1)
    widths = [width // shrink for width in WIDTHS]
    convs = [
        nn.Conv2d(a, b, (5, 1), (stride, 1), (2, 0))
        for (a, b), stride in zip(pairwise((1, *widths)), strides, strict=True)
    ]
    return ConvJudge(convs, nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0)))


class MultiPeriodDiscriminator(nn.Module):
    """Returns scores and layers of every judge for waves `[batch, samples]`.

    Args:
        shrink: factor by which all layers are narrower than published, 1 to 16 in powers of two.
    """

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList([scale_judge(shrink), *(period_judge(shrink) for _ in PERIODS)])

    def forward(self, wave: Tensor) -> Judgement:
        folded = [wave[:, None], *(fold(wave, period) for period in PERIODS)]
        judged = [judge(x) for judge, x in zip(self.discriminators, folded, strict=True)]
        return [scores for scores, _ in judged], [layers for _, layers in judged]
