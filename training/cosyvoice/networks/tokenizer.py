"""A small speech tokenizer with the published interface: Whisper mel frames in, one FSQ code of 6561 per 40 ms out.

Tokens depend on local context only (four blocks of seven tokens) and padding is masked, so a token does not
depend on padding or on its neighbours in the batch. The two heads exist in training alone: one reconstructs the mel
spectrogram given the speaker, so that codes need not encode the speaker; the other predicts phones.
Sources: Du et al., "CosyVoice 2" (2024); Mentzer et al., "Finite Scalar Quantization" (2023); Liu et al., "A ConvNet
for the 2020s" (2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIGITS = 8
CODES = 3**DIGITS


class Block(nn.Module):
    """A residual block on `[batch, time, dim]`: a depthwise convolution over 7 steps, then a two-layer perceptron."""

    def __init__(self, dim: int, kernel: int = 7) -> None:
        super().__init__()
        self.mix = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mixed = self.mix((x * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.down(F.gelu(self.up(self.norm(mixed)), approximate="tanh"))


def mask_of(lengths: Tensor, size: int) -> Tensor:
    """Return a float mask `[batch, size, 1]`: 1 within each row's length, 0 after it."""
    return (torch.arange(size, device=lengths.device)[None] < lengths[:, None]).to(torch.float32)[..., None]


class Tokenizer(nn.Module):
    """Codes int32 `[batch, T // 4]` (0 after an utterance's end) from Whisper mel frames.

    Args of the call: feats `[batch, 128, T]` float at 100 Hz; length `[batch]` int32, frames before padding.
    """

    def __init__(self, dim: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.halve = nn.ModuleList([nn.Conv1d(128, dim, 4, 2, 1), nn.Conv1d(dim, dim, 4, 2, 1)])
        self.blocks = nn.ModuleList(Block(dim) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, DIGITS)

    def latent(self, feats: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounded latent `[batch, T // 4, 8]` in -1..1 before rounding, and its mask `[batch, T // 4,
        1]`.
        """
        x, rest = feats, length
        for halve in self.halve:
            x = F.gelu(halve(x * mask_of(rest, x.shape[2]).transpose(1, 2)), approximate="tanh")
            rest = rest // 2
        mask = mask_of(rest, x.shape[2])
        x = x.transpose(1, 2)
        for block in self.blocks:
            x = block(x, mask)
        return torch.tanh(self.project(self.norm(x)).float()) * 0.999, mask

    def forward(self, feats: Tensor, length: Tensor) -> Tensor:
        latent, mask = self.latent(feats, length)
        return codes_of(torch.round(latent) * mask, mask)


def quantize(latent: Tensor) -> Tensor:
    """Return the latent rounded to -1, 0 or 1, with the gradient of the identity."""
    return latent + (torch.round(latent) - latent).detach()


def codes_of(digits: Tensor, mask: Tensor) -> Tensor:
    """Return the base-3 numbers int32 `[batch, time]` of digits -1..1 `[batch, time, 8]`, lowest digit first; 0 where
    masked.
    """
    powers = torch.tensor([3**i for i in range(DIGITS)], dtype=torch.float32, device=digits.device)
    return (((digits + 1) * powers).sum(-1) * mask[..., 0]).to(torch.int32)


class Heads(nn.Module):
    """The training heads: log-mel `[batch, 2 x tokens, 80]`, phone logits `[batch, tokens, phones + 1]`.

    Args of the call: digits `[batch, tokens, 8]`; mask `[batch, tokens, 1]`; speaker int64 `[batch]`.
    """

    def __init__(self, speakers: int, phones: int, dim: int = 192, blocks: int = 3) -> None:
        super().__init__()
        self.speaker = nn.Embedding(speakers, dim)
        self.enter = nn.Linear(DIGITS, dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(blocks))
        self.split = nn.Linear(dim, 2 * dim)
        self.fine = nn.ModuleList(Block(dim) for _ in range(2))
        self.mel = nn.Linear(dim, 80)
        self.read = nn.Linear(DIGITS, dim)
        self.reading = nn.ModuleList(Block(dim, kernel=5) for _ in range(2))
        self.phones = nn.Linear(dim, phones + 1)

    def forward(self, digits: Tensor, mask: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(digits) + self.speaker(speaker)[:, None]
        for block in self.blocks:
            x = block(x, mask)
        x = self.split(x).reshape(x.shape[0], 2 * x.shape[1], x.shape[2])
        mask2 = mask.repeat_interleave(2, dim=1)
        for block in self.fine:
            x = block(x, mask2)
        y = self.read(digits)
        for block in self.reading:
            y = block(y, mask)
        return self.mel(x), self.phones(y)
