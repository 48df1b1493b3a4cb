"""Batches of similar lengths: the order of an epoch's batches, and their distribution over processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from tritone.errors import ConfigError

BOUNDARIES = (32, 300, 400, 500, 600, 700, 800, 900, 1000)
"""Lengths in spectrogram frames between which utterances share a batch, as published."""

Item = TypeVar("Item")


class BucketSampler:
    """Batches of indices whose lengths lie in one bucket: `batches(epoch, skip)` is a function of its arguments alone.

    A bucket contains the lengths above one boundary and up to the next; lengths outside all buckets are left out and
    counted in `dropped`. Each bucket is filled up with repeated utterances to a multiple of `batch_size` x `replicas`,
    so that all processes make the same number of steps with full batches.

    Args:
        lengths: length of each utterance, in the unit of `boundaries`.
        boundaries: at least two, ascending.
        replicas, rank: number of processes, and the number of this process.
        seed: added to the epoch's number; 0 is the published order.
        shuffle: False keeps the given order of utterances and batches.

    Raises:
        ConfigError: a size is invalid, the boundaries do not ascend, or no utterance lies between them.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        boundaries: Sequence[int] = BOUNDARIES,
        replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.boundaries = check_boundaries(boundaries)
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; a batch needs at least one utterance.")
        if not 0 <= rank < replicas:
            raise ConfigError(f"rank {rank} of {replicas} processes does not exist; ranks count from 0.")
        self.batch_size, self.replicas, self.rank, self.seed, self.shuffle = batch_size, replicas, rank, seed, shuffle
        sizes = np.asarray(lengths, np.int64)
        groups = [np.flatnonzero((sizes > low) & (sizes <= high)).tolist() for low, high in pairwise(self.boundaries)]
        self.buckets: list[list[int]] = [group for group in groups if group]
        self.total = len(sizes)
        self.too_short = int((sizes <= self.boundaries[0]).sum())
        self.too_long = int((sizes > self.boundaries[-1]).sum())
        if not self.buckets:
            raise ConfigError(f"there is no utterance to train on: {self.report()}. Change train.bucket_boundaries.")

    def __len__(self) -> int:
        """Return the number of batches of an epoch for each process."""
        return sum(-(-len(bucket) // self._multiple) for bucket in self.buckets)

    @property
    def dropped(self) -> int:
        """The number of utterances that are in no batch."""
        return self.too_short + self.too_long

    def report(self) -> str:
        """Return how many utterances are used, and how many are left out at each end."""
        low, high = self.boundaries[0], self.boundaries[-1]
        return (
            f"{self.total - self.dropped} of {self.total} utterances are between {low} and {high} frames; "
            f"left out are {self.too_short} of at most {low} frames and {self.too_long} of more than {high}"
        )

    def batches(self, epoch: int, skip: int = 0) -> Iterator[list[int]]:
        """Yield this process's batches of that epoch, as indices, without the first `skip`."""
        generator = torch.Generator().manual_seed(self.seed + epoch)
        chunks: list[list[int]] = []
        for members in [self._order(bucket, generator) for bucket in self.buckets]:
            count = -(-len(members) // self._multiple) * self._multiple
            mine = [members[i % len(members)] for i in range(self.rank, count, self.replicas)]
            chunks += [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]
        yield from self._order(chunks, generator)[skip:]

    @property
    def _multiple(self) -> int:
        return self.batch_size * self.replicas

    def _order(self, items: list[Item], generator: torch.Generator) -> list[Item]:
        if not self.shuffle:
            return items
        return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


def check_boundaries(boundaries: Sequence[int]) -> tuple[int, ...]:
    """Return the boundaries; raise ConfigError unless there are at least two, ascending from 0 or more."""
    checked = tuple(int(b) for b in boundaries)
    if len(checked) < 2 or checked[0] < 0 or any(low >= high for low, high in pairwise(checked)):
        raise ConfigError(
            f"train.bucket_boundaries is {list(boundaries)}; it needs at least two frame counts, "
            f"from 0 up, each larger than the one before, such as {list(BOUNDARIES)}."
        )
    return checked
