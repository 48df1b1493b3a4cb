"""The duration discriminator, which judges whether a log duration comes from the alignment or from a predictor.

Source: Kong et al., "VITS2" (2023), section 2.1: conditioned on the text, with one judgement for each phone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tritone.errors import ConfigError
from tritone.families.bert_vits2.networks.encoder import ChannelNorm


class DurationDiscriminator(nn.Module):
    """Returns the probability of each log duration to come from the alignment.

    Two layouts: "lstm" (version 2.3) has a bidirectional LSTM over the phones; "conv" (2.0 to 2.2) has two more
    convolutions, whose keys and order have not been checked against a file of those versions. Text and speaker are
    detached: the loss moves durations only.

    Args:
        hidden: width of the text encoder's output.
        width: width of the inner layers.
        speaker: width of the speaker embedding, 0 for none.
        kernel: width of the convolutions.
        dropout: rate after each normalisation.
        layout: "lstm" or "conv".
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
        """Return probabilities `[batch, phones, 1]` for each of the `durations`; the text is encoded once.

        Args:
            x: encoded phones `[batch, hidden, phones]`.
            mask: 1 where a phone exists, `[batch, 1, phones]`.
            durations: natural logarithms of frames, each `[batch, 1, phones]`.
            speaker: `[batch, speaker, 1]`, or None for a network without speakers.
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
