"""The quantisers of emotion embeddings in the text encoders of versions 2.1 and 2.2; keys as in published checkpoints.

A quantiser replaces a vector by the nearest of its codes (van den Oord et al. 2017), in several heads that each have
codes of their own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Codebook(nn.Module):
    """Codes `embed` `[heads, codes, width]` beside the counts from which training moved them, which nothing reads."""

    def __init__(self, heads: int, codes: int, width: int, learned: bool) -> None:
        super().__init__()
        if learned:
            self.embed = nn.Parameter(torch.zeros(heads, codes, width))
        self.register_buffer("initted", torch.ones(1))
        self.register_buffer("cluster_size", torch.zeros(heads, codes))
        self.register_buffer("embed_avg", torch.zeros(heads, codes, width))
        if not learned:
            self.register_buffer("embed", torch.zeros(heads, codes, width))


class Quantizer(nn.Module):
    """Maps vectors `[batch, width]` to the nearest codes, joined over heads, as `[batch, width]`.

    Args:
        learned: whether the codes were parameters in training, which decides nothing but the order of the keys.
    """

    def __init__(self, width: int, heads: int, codes: int, code_width: int, learned: bool) -> None:
        super().__init__()
        self.heads, self.codes, self.code_width = heads, codes, code_width
        inner = heads * code_width
        self.project_in = nn.Linear(width, inner) if inner != width else nn.Identity()
        self.project_out = nn.Linear(inner, width) if inner != width else nn.Identity()
        self._codebook = Codebook(heads, codes, code_width, learned)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.project_in(x).reshape(-1, self.heads, 1, self.code_width)
        distances = (parts - self._codebook.embed[None]).square().sum(dim=3)
        return self.project_out(self.code(distances.argmin(dim=2)))

    def code(self, index: Tensor) -> Tensor:
        """Return the codes with the indices int64 `[batch, heads]`, joined over heads."""
        first = torch.arange(self.heads, device=index.device) * self.codes
        return F.embedding(index + first, self._codebook.embed.flatten(0, 1)).flatten(1)


class Gate(nn.Module):
    """A gated feed-forward layer (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc1 = nn.Linear(width, hidden, bias=False)
        self.c_fc2 = nn.Linear(width, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.silu(self.c_fc1(x)) * self.c_fc2(x))


class GatedBlock(nn.Module):
    """Adds a gated layer of the normalised input to the input."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = Gate(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


def prompt_features(width: int, inner: int) -> nn.Sequential:
    """Return the layers before the quantiser of 2.2, `[batch, width]` to the same."""
    return nn.Sequential(
        nn.Linear(width, inner, bias=False),
        nn.GELU(),
        nn.LayerNorm(inner),
        GatedBlock(inner, width),
        nn.Linear(inner, width, bias=False),
    )
