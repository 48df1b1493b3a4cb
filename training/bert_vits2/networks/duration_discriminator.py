"""The duration discriminator: does this phone's log-duration come from the alignment or from a predictor?

Source: Kong et al., "VITS2" (2023), section 2.1: conditional on the text, one judgement for each phone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tritone.errors import ConfigError
from tritone.families.bert_vits2.networks.encoder import ChannelNorm


class DurationDiscriminator(nn.Module):
    """Probabilities that log-durations are the alignment's.

    Two layouts: "lstm" (version 2.3) reads the phones with a bidirectional LSTM; "conv" (2.0 to 2.2) with two more
    convolutions, whose keys and order could not be compared with a file of those versions. Text and speaker are taken
    without their gradients: only durations are to be moved by what it says.

    Args:
        hidden: width of the text encoder's output. width: of the layers within. speaker: width of its vector, or 0.
        kernel: of the convolutions. dropout: after each normalisation. layout: "lstm" or "conv".
    """

    def __init__(
        self, hidden: int, width: int, speaker: int, kernel: int = 3, dropout: float = 0.1, layout: str = "lstm"
    ) -> None:
        super().__init__()
        if layout not in ("lstm", "conv"):
            raise ConfigError(
                f"duration discriminators have the layout 'lstm' (2.3) or 'conv' (2.0 to 2.2), not {layout!r}."
            )
        self.layout = layout
        self.drop = nn.Dropout(dropout)
        self.conv_1 = nn.Conv1d(hidden, width, kernel, padding=kernel // 2)
        self.norm_1 = ChannelNorm(width)
        self.conv_2 = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.norm_2 = ChannelNorm(width)
        self.dur_proj = nn.Conv1d(1, width, 1)
        if layout == "lstm":
            self.LSTM = nn.LSTM(2 * width, width, batch_first=True, bidirectional=True)
        else:
            self.pre_out_conv_1 = nn.Conv1d(2 * width, width, kernel, padding=kernel // 2)
            self.pre_out_norm_1 = ChannelNorm(width)
            self.pre_out_conv_2 = nn.Conv1d(width, width, kernel, padding=kernel // 2)
            self.pre_out_norm_2 = ChannelNorm(width)
        if speaker:
            self.cond = nn.Conv1d(speaker, hidden, 1)
        self.output_layer = nn.Sequential(nn.Linear(2 * width if layout == "lstm" else width, 1), nn.Sigmoid())

    def forward(self, x: Tensor, mask: Tensor, durations: Sequence[Tensor], speaker: Tensor | None) -> list[Tensor]:
        """For each of the `durations`, probabilities `[batch, phones, 1]`; the text is read once.

        Args:
            x: encoded phones `[batch, hidden, phones]`; mask: 1 where there is one, `[batch, 1, phones]`.
            durations: natural logarithms of frames, each `[batch, 1, phones]`.
            speaker: `[batch, speaker, 1]`, or None for a network without.
        """
        x = x.detach()
        if speaker is not None:
            x = x + self.cond(speaker.detach())
        x = self.drop(self.norm_1(torch.relu(self.conv_1(x * mask))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(x * mask))))
        return [self._judge(torch.cat([x, self.dur_proj(duration)], dim=1), mask) for duration in durations]

    def _judge(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.layout == "lstm":
            return self.output_layer(self.LSTM(x.mT)[0])
        x = self.drop(self.pre_out_norm_1(torch.relu(self.pre_out_conv_1(x * mask))))
        x = self.drop(self.pre_out_norm_2(torch.relu(self.pre_out_conv_2(x * mask))))
        return self.output_layer((x * mask).mT)
