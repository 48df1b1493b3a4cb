"""A low-rank part of a language model's speech tables, shared by codes that share digits.

A code of finite scalar quantisation is a number of ternary digits, and codes that differ in one digit sound alike. Rows
of an embedding or head learned one by one cannot express that; a low-rank part over the digits and their pairs can.
Folding it into the table gives an ordinary table again, so a trained checkpoint has no trace of it.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CodeFeatures(nn.Module):
    """The shared parts of the speech embedding and of the speech head, both zero at first.

    Args:
        digits: ternary digits of a code; rows: rows of the tables, those after the codes being markers.
        dim: width of a row.
    """

    features: Tensor

    def __init__(self, digits: int, rows: int, dim: int) -> None:
        super().__init__()
        codes = torch.arange(3**digits)
        ternary = [(codes // 3**place) % 3 for place in range(digits)]
        singles = [F.one_hot(digit, 3) for digit in ternary]
        pairs = [F.one_hot(3 * a + b, 9) for a, b in combinations(ternary, 2)]
        known = torch.cat([*singles, *pairs], dim=1).float()
        features = torch.zeros(rows, known.shape[1])
        features[: len(codes)] = known
        self.register_buffer("features", features, persistent=False)
        self.embedding = nn.Parameter(torch.zeros(known.shape[1], dim))
        self.head = nn.Parameter(torch.zeros(known.shape[1], dim))

    def embedding_table(self, own: Tensor) -> Tensor:
        """Return rows `[rows, dim]` of the embedding: each row's own part plus its digits' shared part."""
        return own + self.features @ self.embedding

    def head_table(self, own: Tensor) -> Tensor:
        """Return rows `[rows, dim]` of the head, composed the same way."""
        return own + self.features @ self.head
