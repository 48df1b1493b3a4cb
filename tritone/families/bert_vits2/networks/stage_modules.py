"""The modules of the stages: parts of the generator that take lengths instead of masks.

Published exports have the same six parts, for one utterance; these take a batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.bert_vits2.networks.decoder import LAST_SLOPE, SLOPE, Decoder, ResBlock
from tritone.families.bert_vits2.networks.generator import Generator
from tritone.nn.stft import length_mask


class Speaker(nn.Module):
    """Looks up speakers: ids `sid` (int64 `[batch]`) to `[batch, gin, 1]`."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.emb_g = generator.emb_g

    def forward(self, sid: Tensor) -> Tensor:
        return self.emb_g(sid)[:, :, None]


class HeardSpeaker(nn.Module):
    """Maps linear spectrograms `[batch, bins, frames]` of recordings to speakers `[batch, gin, 1]`."""

    full_precision = True
    full_precision_inputs = ("spec",)

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.ref_enc = generator.ref_enc

    def forward(self, spec: Tensor, spec_lengths: Tensor) -> Tensor:
        return self.ref_enc(spec * length_mask(spec_lengths, spec), spec_lengths)[:, :, None]


class TextStage(nn.Module):
    """A text encoder with lengths in place of masks, in float32; each version has its inputs."""

    full_precision = True
    full_precision_inputs: tuple[str, ...] = ("bert_0", "bert_1", "bert_2", "g")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.enc_p = generator.enc_p


class Text(TextStage):
    """The text encoder; see `TextEncoder`."""

    def forward(
        self,
        x: Tensor,
        x_lengths: Tensor,
        t: Tensor,
        language: Tensor,
        bert_0: Tensor,
        bert_1: Tensor,
        bert_2: Tensor,
        g: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mask = length_mask(x_lengths, bert_0)
        # Padding affects padding only; zeros keep it finite in every precision.
        return self.enc_p(x, mask, t, language, bert_0 * mask, bert_1 * mask, bert_2 * mask, g)


class ClusterText(TextStage):
    """The text encoder of 2.1; see `ClusterEncoder`."""

    full_precision_inputs = (*TextStage.full_precision_inputs, "emotion")

    def forward(
        self,
        x: Tensor,
        x_lengths: Tensor,
        t: Tensor,
        language: Tensor,
        bert_0: Tensor,
        bert_1: Tensor,
        bert_2: Tensor,
        g: Tensor,
        emotion: Tensor,
        emotion_id: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mask = length_mask(x_lengths, bert_0)
        return self.enc_p(x, mask, t, language, bert_0 * mask, bert_1 * mask, bert_2 * mask, g, emotion, emotion_id)


class PromptText(TextStage):
    """The text encoder of 2.2; see `PromptEncoder`."""

    full_precision_inputs = (*TextStage.full_precision_inputs, "emotion")

    def forward(
        self,
        x: Tensor,
        x_lengths: Tensor,
        t: Tensor,
        language: Tensor,
        bert_0: Tensor,
        bert_1: Tensor,
        bert_2: Tensor,
        g: Tensor,
        emotion: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mask = length_mask(x_lengths, bert_0)
        return self.enc_p(x, mask, t, language, bert_0 * mask, bert_1 * mask, bert_2 * mask, g, emotion)


class Stochastic(nn.Module):
    """The stochastic duration predictor with the noise as an input."""

    full_precision = True
    full_precision_inputs = ("x", "zin", "g")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.sdp = generator.sdp

    def forward(self, x: Tensor, x_lengths: Tensor, zin: Tensor, g: Tensor) -> Tensor:
        return self.sdp(x, length_mask(x_lengths, x), zin, g)


class Deterministic(nn.Module):
    """The deterministic duration predictor."""

    full_precision = True
    full_precision_inputs = ("x", "g")

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.dp = generator.dp

    def forward(self, x: Tensor, x_lengths: Tensor, g: Tensor) -> Tensor:
        return self.dp(x, length_mask(x_lengths, x), g)


class PriorToPosterior(nn.Module):
    """The flow from a sample of the prior to the decoder's input; zero past a row's end."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.flow = generator.flow

    def forward(self, z_p: Tensor, y_lengths: Tensor, g: Tensor) -> Tensor:
        mask = length_mask(y_lengths, z_p)
        return self.flow(z_p * mask, mask, g) * mask


class Waveform(nn.Module):
    """A faster form of the decoder for rows of equal length: `[batch, inter, frames]` to `[batch, hop * frames]`.

    Convolutions have a height of one and channels last in memory, because CPU kernels are fast there: they have blocked
    layouts for images, while they gather one-dimensional convolutions into matrices first. There are no masks, because
    all callers have rows of equal length (see `windows`): a mask between two convolutions would keep engines from
    fusing them.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        decoder: Decoder = generator.dec
        self.last_slope, each = LAST_SLOPE, decoder.kernels
        self.conv_pre, self.cond = _flat(decoder.conv_pre), _flat(decoder.cond)
        self.levels = nn.ModuleList(
            Level(up, list(decoder.resblocks)[each * index : each * (index + 1)])
            for index, up in enumerate(decoder.ups)
        )
        self.conv_post = _flat(decoder.conv_post)

    def forward(self, z_in: Tensor, g: Tensor) -> Tensor:
        x = self.conv_pre(z_in[:, :, None]) + self.cond(g[:, :, None])
        for level in self.levels:
            x = level(x)
        return torch.tanh(self.conv_post(F.leaky_relu(x, self.last_slope)))[:, 0, 0]


class Level(nn.Module):
    """One upsampling and the mean of the residual blocks after it."""

    def __init__(self, up: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.slope, self.count = SLOPE, len(blocks)
        self.up, self.first = _flat(up), FlatBlock(blocks[0])
        self.rest = nn.ModuleList(FlatBlock(block) for block in blocks[1:])

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.leaky_relu(x, self.slope))
        total = self.first(x)
        for block in self.rest:
            total = total + block(x)
        return total / self.count


class FlatBlock(nn.Module):
    """A residual block with a height of one."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, ResBlock)
        self.slope = block.slope
        self.convs1 = nn.ModuleList(_flat(conv) for conv in block.convs1)
        self.convs2 = nn.ModuleList(_flat(conv) for conv in block.convs2)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2):  # noqa: B905 (strict cannot be scripted)
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, self.slope)), self.slope))
        return x


def _flat(conv: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return the convolution over images of height one; its weight norm must have been folded."""
    assert isinstance(conv, nn.Conv1d | nn.ConvTranspose1d)
    kind = nn.Conv2d if isinstance(conv, nn.Conv1d) else nn.ConvTranspose2d
    (kernel,), (stride,), (dilation,) = conv.kernel_size, conv.stride, conv.dilation
    assert isinstance(conv.padding, tuple)
    flat = kind(
        conv.in_channels,
        conv.out_channels,
        (1, kernel),
        (1, stride),
        (0, conv.padding[0]),
        dilation=(1, dilation),
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        blocked = torch.empty_like(flat.weight, memory_format=torch.channels_last)
        flat.weight.data = blocked.copy_(conv.weight[:, :, None])
        if conv.bias is not None and flat.bias is not None:
            flat.bias.copy_(conv.bias)
    return flat
