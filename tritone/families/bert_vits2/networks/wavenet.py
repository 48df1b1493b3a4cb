"""Non-causal WaveNet layers (van den Oord et al. 2016; WaveGlow, Prenger et al. 2018) conditioned on a speaker."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.nn.weight_norm import weight_norm


class WaveNet(nn.Module):
    """Maps `[batch, channels, frames]` to the same shape: the sum of the skip outputs of all gated layers.

    Every layer reads zeros past a row's end, so a row does not depend on its padding.
    """

    def __init__(self, channels: int, kernel: int, layers: int, gin: int) -> None:
        super().__init__()
        self.channels = channels
        self.in_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels, kernel, padding=kernel // 2)) for _ in range(layers)
        )
        # No layer follows the last one, so it has no residual output.
        self.res_skip_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels if index < layers - 1 else channels, 1))
            for index in range(layers)
        )
        self.cond_layer = weight_norm(nn.Conv1d(gin, 2 * channels * layers, 1))

    def forward(self, x: Tensor, mask: Tensor, g: Tensor) -> Tensor:
        """Return the summed skip outputs; `mask` is `[batch, 1, frames]`, the speaker `g` `[batch, gin, 1]`."""
        width, total = self.channels, torch.zeros_like(x)
        conditions = self.cond_layer(g)
        last = len(self.in_layers) - 1
        for index, (inner, res_skip) in enumerate(zip(self.in_layers, self.res_skip_layers)):  # noqa: B905 (scripted)
            gate = inner(x) + conditions[:, 2 * width * index : 2 * width * (index + 1)]
            both = res_skip(torch.tanh(gate[:, :width]) * torch.sigmoid(gate[:, width:]))
            if index < last:
                x = (x + both[:, :width]) * mask
                total = total + both[:, width:]
            else:
                total = total + both
        return total * mask
