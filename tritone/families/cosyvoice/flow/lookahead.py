"""The layer by which the flows of v2 and v3 look a few tokens ahead."""

from __future__ import annotations

from torch import Tensor, nn

from tritone.nn.conv import CausalConv1d


class Lookahead(nn.Module):
    """Residual convolutions over `ahead` future tokens, then over the past: `[batch, tokens + ahead, dim]` to
    `[batch, tokens, dim]`, with `channels` hidden channels."""

    def __init__(self, dim: int, ahead: int, channels: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.conv1 = nn.Conv1d(dim, channels, ahead + 1)
        self.conv2 = CausalConv1d(channels, dim, 3)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        hidden = nn.functional.leaky_relu(self.conv1(x.transpose(1, 2)))
        hidden, state = self.conv2(hidden, state)
        return x[:, : x.shape[1] - self.ahead] + hidden.transpose(1, 2), state
