"""Embeddings of one tokenizer's codes carried over to another tokenizer's on the same recordings.

A tokenizer that was trained further uses other codes for the same sounds. Recordings tokenized by both show which:
a new code starts from the mean of the old ones at its places, instead of from noise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.corpus.data import Corpus, Store
from tritone.errors import ConfigError


def carried(table: Tensor, before: Store, after: Store) -> Tensor:
    """Return rows for new codes `[codes, dim]`, float32: the mean of the old codes' rows at their places.

    A code that is never used gets the mean over all places.

    Args:
        table: rows of old codes `[codes, dim]`. before, after: both tokenizers' tokens of the same utterances.
    """
    old, new = _aligned(before, after)
    codes, table = len(table), table.detach().float().cpu()
    pairs = torch.sparse_coo_tensor(
        torch.stack([new, old]), torch.ones(len(new)), (codes, codes), check_invariants=True
    )
    sums, places = torch.sparse.mm(pairs.coalesce(), table), torch.bincount(new, minlength=codes)[:, None]
    return torch.where(places > 0, sums / places.clamp(min=1), sums.sum(dim=0) / len(new))


def carry(rows: Tensor, before: Corpus, after: Corpus, codes: int) -> Tensor:
    """Return `rows` with the first `codes` of them carried over; the marker rows after them are unchanged.

    Raises:
        ConfigError: the two folders hold different recordings.
    """
    if before.digest != after.digest:
        raise ConfigError(
            f"--start-data {before.folder} holds other recordings than {after.folder}; codes can only be compared "
            "where both tokenizers read the same recordings; leave --start-data out."
        )
    moved = carried(rows[:codes], before.store("tokens"), after.store("tokens"))
    return torch.cat([moved.to(rows), rows[codes:].detach()])


def _aligned(before: Store, after: Store) -> tuple[Tensor, Tensor]:
    """Return codes int64 `[tokens]` of both stores at the same places."""
    if not np.array_equal(before.offsets, after.offsets):
        raise ConfigError("the two tokenizers have different token rates: they give different numbers of tokens.")
    old, new = (torch.from_numpy(np.asarray(store.data[:, 0]).astype(np.int64)) for store in (before, after))
    return old, new
