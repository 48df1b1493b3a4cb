"""The flow between prior and posterior: additive couplings (Dinh et al. 2014) with a transformer inside (VITS2).

A coupling shifts one half of the channels by a function of the other half; the order of channels is reversed between
couplings. Volume is preserved, so there is no log-determinant to carry.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.bert_vits2.config import ModelConfig
from tritone.families.bert_vits2.networks.encoder import Encoder
from tritone.families.bert_vits2.networks.wavenet import WaveNet

TRANSFORMER_KERNEL = 5
WAVENET_KERNEL, WAVENET_LAYERS = 5, 4


class Coupling(nn.Module):
    """Shifts the second half of the channels of `[batch, inter, frames]`; the initial weights are the identity."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.inter_channels // 2
        hidden, gin = config.hidden_channels, config.gin_channels
        self.pre = nn.Conv1d(self.width, hidden, 1)
        self.enc: nn.Module
        if config.use_transformer_flow:
            self.enc = Encoder(
                hidden,
                config.filter_channels,
                config.n_heads,
                config.n_layers_trans_flow,
                TRANSFORMER_KERNEL,
                config.p_dropout,
                gin,
            )
        else:
            self.enc = WaveNet(hidden, WAVENET_KERNEL, WAVENET_LAYERS, gin)
        self.post = nn.Conv1d(hidden, self.width, 1)
        nn.init.zeros_(self.post.weight)
        nn.init.zeros_(self.post.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, mask: Tensor, g: Tensor, direction: float) -> Tensor:
        """Return the coupling (`direction` 1) or its inverse (-1)."""
        kept, moved = x[:, : self.width], x[:, self.width :]
        shift = self.post(self.enc(self.pre(kept) * mask, mask, g))
        return torch.cat((kept, (moved + direction * shift) * mask), dim=1)


class Flow(nn.Module):
    """Maps latents of the prior to latents of the posterior, and back; keys as in published checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(config.n_flow_layer):
            # The published list also counts the reversals of channels between couplings.
            layers += [Coupling(config), nn.Identity()]
        self.flows = nn.ModuleList(layers)

    def forward(self, z_p: Tensor, mask: Tensor, g: Tensor) -> Tensor:
        """Return the decoder's input, `[batch, inter, frames]`, from a sample of the prior: the inference direction.

        Args:
            mask: `[batch, 1, frames]`, 1 where a frame exists.
            g: speaker, `[batch, gin, 1]`.
        """
        x = z_p
        # `forward` by name, because elements of a slice cannot be called when scripted.
        for coupling in self.flows[-2::-2]:
            x = coupling.forward(x.flip(1), mask, g, -1.0)
        return x

    def to_prior(self, z: Tensor, mask: Tensor, g: Tensor) -> Tensor:
        """Return the inverse of `forward`: posterior latents mapped to the prior, the training direction."""
        x = z
        for coupling in self.flows[::2]:
            x = coupling(x, mask, g, 1.0).flip(1)
        return x
