"""The transformer of the text encoder and of the flow, and its layers.

Post-norm layers as in Glow-TTS (Kim et al. 2020): relative attention, then two convolutions, each added to its input
and normalised. The speaker enters once, before the third layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.bert_vits2.contradictions import SPEAKER_LAYER
from tritone.families.bert_vits2.networks.relative_attention import RelativeAttention


class ChannelNorm(nn.Module):
    """Normalises every frame of `[batch, channels, frames]` over its channels."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), (self.channels,), self.gamma, self.beta, self.eps).transpose(1, 2)


class FeedForward(nn.Module):
    """Two convolutions that keep the length, with a ReLU between them; frames past a row's end are read as zeros."""

    def __init__(self, channels: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.sides = ((kernel - 1) // 2, kernel // 2)
        self.conv_1 = nn.Conv1d(channels, hidden, kernel)
        self.conv_2 = nn.Conv1d(hidden, channels, kernel)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.conv_1(F.pad(x * mask, self.sides))))
        return self.conv_2(F.pad(x * mask, self.sides)) * mask


class Encoder(nn.Module):
    """Maps `[batch, channels, frames]` to the same shape, zero past a row's end; keys as in published checkpoints."""

    def __init__(
        self, channels: int, filter_channels: int, heads: int, layers: int, kernel: int, dropout: float, gin: int
    ) -> None:
        super().__init__()
        self.speaker_layer = SPEAKER_LAYER
        self.spk_emb_linear = nn.Linear(gin, channels)
        self.attn_layers = nn.ModuleList(RelativeAttention(channels, heads, dropout) for _ in range(layers))
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(FeedForward(channels, filter_channels, kernel, dropout) for _ in range(layers))
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, g: Tensor) -> Tensor:
        """Return the encoded frames.

        Args:
            mask: `[batch, 1, frames]`, 1 where a frame exists.
            g: speaker, `[batch, gin, 1]`.
        """
        visible = mask[:, :, None, :] * mask[:, :, :, None]
        x = x * mask
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2)  # noqa: B905 (strict cannot be scripted)
        for index, (attention, norm_1, feed_forward, norm_2) in enumerate(layers):
            if index == self.speaker_layer:
                x = (x + self.spk_emb_linear(g.transpose(1, 2)).transpose(1, 2)) * mask
            x = norm_1(x + self.drop(attention(x, visible)))
            x = norm_2(x + self.drop(feed_forward(x, mask)))
        return x * mask
