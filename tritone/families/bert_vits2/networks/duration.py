"""The deterministic duration predictor (FastSpeech, Ren et al. 2019), and frames from durations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.bert_vits2.networks.encoder import ChannelNorm

FILTER, KERNEL, DROPOUT = 256, 3, 0.5


class DurationPredictor(nn.Module):
    """Maps encoded phones `[batch, hidden, phones]` to log durations in frames `[batch, 1, phones]`.

    Its gradients reach neither the text encoder nor the speaker: both inputs are detached.
    """

    def __init__(self, hidden: int, gin: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(hidden, FILTER, KERNEL, padding=KERNEL // 2)
        self.norm_1 = ChannelNorm(FILTER)
        self.conv_2 = nn.Conv1d(FILTER, FILTER, KERNEL, padding=KERNEL // 2)
        self.norm_2 = ChannelNorm(FILTER)
        self.proj = nn.Conv1d(FILTER, 1, 1)
        self.cond = nn.Conv1d(gin, hidden, 1)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, mask: Tensor, g: Tensor) -> Tensor:
        """Return log durations, 0 past a row's end.

        Args:
            mask: `[batch, 1, phones]`, 1 where a phone exists.
            g: speaker, `[batch, gin, 1]`.
        """
        x = x.detach() + self.cond(g.detach())
        x = self.drop(self.norm_1(torch.relu(self.conv_1(x * mask))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(x * mask))))
        return self.proj(x * mask) * mask


def whole_frames(log_duration: Tensor, mask: Tensor, length_scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return whole frames of each phone `[batch, 1, phones]`, and frames of each row (at least 1), int64 `[batch]`."""
    duration = torch.ceil(log_duration.float().exp() * mask * length_scale)
    return duration, duration.sum(dim=(1, 2)).clamp(min=1).long()


def duration_path(duration: Tensor, mask: Tensor) -> Tensor:
    """Return the alignment of frames to phones: 1 where the frame belongs to the phone, `[batch, 1, frames, phones]`.

    Args:
        duration: whole frames of each phone, `[batch, 1, phones]`.
        mask: 1 where both frame and phone exist, `[batch, 1, frames, phones]`.
    """
    end = duration.cumsum(dim=-1)[:, :, None, :]
    frame = torch.arange(mask.shape[2], device=duration.device)[None, None, :, None]
    begun, over = frame >= end - duration[:, :, None, :], frame >= end
    return (begun & ~over).to(mask.dtype) * mask
