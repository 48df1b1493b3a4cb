"""Layers that the U-Nets of v1 and v2 share, and the state of an estimator that streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from tritone.nn.activations import Mish
from tritone.nn.attention import SelfAttention

if TYPE_CHECKING:
    from tritone.families.cosyvoice.config.v1 import UnetConfig
    from tritone.families.cosyvoice.config.v2 import EstimatorConfig


class EstimatorState(NamedTuple):
    """Past keys and values `[batch, layers, heads, past, 2 x head_dim]` and past inputs of all convolutions
    `[batch, channels of all, 2]`."""

    att: Tensor
    conv: Tensor


class Parts:
    """Passes each layer its part of the state, in the order in which the layers run, and collects the next state.

    A layer takes its part (None without a state), runs, and puts the part of the next state.
    """

    def __init__(self, conv: list[Tensor], att: list[Tensor]) -> None:
        self.conv, self.att = conv, att
        self.next_conv: list[Tensor] = []
        self.next_att: list[Tensor] = []

    def take_conv(self) -> Tensor | None:
        """Return the past of the convolution that runs now."""
        return self.conv[len(self.next_conv)] if len(self.conv) > 0 else None

    def take_att(self) -> Tensor | None:
        """Return the past of the attention layer that runs now."""
        return self.att[len(self.next_att)] if len(self.att) > 0 else None

    def put_conv(self, after: Tensor | None) -> None:
        """Keep the convolution's part of the next state."""
        if after is not None:
            self.next_conv.append(after)

    def put_att(self, after: Tensor | None) -> None:
        """Keep the attention layer's part of the next state."""
        if after is not None:
            self.next_att.append(after)


class UnetResnet(nn.Module):
    """The layers of a residual block: two convolution blocks with the flow time added between, and a residual path."""

    def __init__(self, block: Callable[[int, int], nn.Module], in_channels: int, channels: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Mish(), nn.Linear(time_dim, channels))
        self.block1 = block(in_channels, channels)
        self.block2 = block(channels, channels)
        self.res_conv = nn.Conv1d(in_channels, channels, 1)


class Gelu(nn.Module):
    """Linear layer and GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.proj(x))


class FeedForward(nn.Module):
    """Position-wise two-layer perceptron, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gelu(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each normed before and added: `[batch, frames, dim]`."""

    def __init__(self, dim: int, heads: int, head_dim: int, keep: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = SelfAttention(dim, heads, head_dim, keep)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, bias: Tensor, parts: Parts) -> Tensor:
        attended, after = self.attn1(self.norm1(x), bias, parts.take_att())
        parts.put_att(after)
        x = x + attended
        return x + self.ff(self.norm3(x))


class UnetLevel(nn.ModuleList):
    """A residual block, its transformer blocks, and further layers of the kind of level.

    A list, so that its layers have the published key names. `keep` counts the past frames that streams attend to.
    """

    def __init__(
        self,
        resnet: Callable[[int, int, int], nn.Module],
        config: UnetConfig | EstimatorConfig,
        in_channels: int,
        channels: int,
        keep: int,
        *more: nn.Module,
    ) -> None:
        heads, head_dim = config.num_heads, config.attention_head_dim
        blocks = nn.ModuleList(TransformerBlock(channels, heads, head_dim, keep) for _ in range(config.n_blocks))
        super().__init__([resnet(in_channels, channels, 4 * config.channels[0]), blocks, *more])

    def attend(self, x: Tensor, bias: Tensor, parts: Parts) -> Tensor:
        """Return the output of the transformer blocks, `[batch, channels, frames]` as `x`."""
        x = x.transpose(1, 2)
        for block in self[1].children():
            x = block(x, bias, parts)
        return x.transpose(1, 2)
