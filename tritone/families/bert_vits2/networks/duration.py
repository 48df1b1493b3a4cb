"""The deterministic duration predictor (FastSpeech, Ren et al. 2019), and from durations to frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.bert_vits2.networks.encoder import ChannelNorm

FILTER, KERNEL, DROPOUT = 256, 3, 0.5


class DurationPredictor(nn.Module):
    """Encoded phonemes `[batch, hidden, phones]` to log durations in frames `[batch, 1, phones]`.

    Neither text encoder nor speaker learns from it: both inputs are detached.
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
        """Log durations, 0 past a row's end; `mask` is `[batch, 1, phones]`, the speaker `g` `[batch, gin, 1]`."""
        x = x.detach() + self.cond(g.detach())
        x = self.drop(self.norm_1(torch.relu(self.conv_1(x * mask))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(x * mask))))
        return self.proj(x * mask) * mask


def whole_frames(log_duration: Tensor, mask: Tensor, length_scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return frames of each phoneme, whole numbers `[batch, 1, phones]`, and of each row, int64 `[batch]`, at
    least 1.
    """
    duration = torch.ceil(log_duration.float().exp() * mask * length_scale)
    return duration, duration.sum(dim=(1, 2)).clamp(min=1).long()


def duration_path(duration: Tensor, mask: Tensor) -> Tensor:
    """Which phoneme each frame belongs to: 0 or 1, `[batch, 1, frames, phones]`.

    Args:
        duration: whole frames of each phoneme, `[batch, 1, phones]`.
        mask: 1 where both frame and phoneme exist, `[batch, 1, frames, phones]`.
    """
    end = duration.cumsum(dim=-1)[:, :, None, :]
    frame = torch.arange(mask.shape[2], device=duration.device)[None, None, :, None]
    begun, over = frame >= end - duration[:, :, None, :], frame >= end
    return (begun & ~over).to(mask.dtype) * mask
