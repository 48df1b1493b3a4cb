"""Batches of similar length: which utterances an epoch trains on together, in which order, on which process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from tritone.errors import ConfigError

BOUNDARIES = (32, 300, 400, 500, 600, 700, 800, 900, 1000)
"""Lengths in spectrogram frames between which utterances share a batch, as published."""

Thing = TypeVar("Thing")


class BucketSampler:
    """Batches of indices whose lengths lie in one bucket: `batches(epoch, skip)` is a function of its arguments alone.

    A bucket holds the lengths above one boundary and up to the next; what lies outside all of them is left out, which
    `dropped` tells. Each bucket is filled up with its own utterances to a multiple of `batch_size` x `replicas`, so
    that all processes make equally many steps of full batches.

    Args:
        lengths: of every utterance, in the unit of `boundaries`; not changed.
        boundaries: at least two, ascending.
        replicas, rank: of how many processes, and which, this one is.
        seed: added to the epoch's number; 0 is the published order.
        shuffle: False takes utterances and batches in their given order.

    Raises:
        ConfigError: sizes that cannot be, boundaries that do not ascend, no utterance within them.
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
            raise ConfigError(f"no utterance can be trained on: {self.report()}. Change train.bucket_boundaries.")

    def __len__(self) -> int:
        """Return how many batches an epoch has for each process."""
        return sum(-(-len(bucket) // self._multiple) for bucket in self.buckets)

    @property
    def dropped(self) -> int:
        """How many utterances are in no batch."""
        return self.too_short + self.too_long

    def report(self) -> str:
        """What was left out and by which bound, in words."""
        low, high = self.boundaries[0], self.boundaries[-1]
        return (
            f"{self.total - self.dropped} of {self.total} utterances are between {low} and {high} frames; "
            f"left out are {self.too_short} of at most {low} frames and {self.too_long} of more than {high}"
        )

    def batches(self, epoch: int, skip: int = 0) -> Iterator[list[int]]:
        """Yield this process's batches of that epoch, as indices, without the first `skip`."""
        generator = torch.Generator().manual_seed(self.seed + epoch)
        found: list[list[int]] = []
        for members in [self._order(bucket, generator) for bucket in self.buckets]:
            count = -(-len(members) // self._multiple) * self._multiple
            mine = [members[i % len(members)] for i in range(self.rank, count, self.replicas)]
            found += [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]
        yield from self._order(found, generator)[skip:]

    @property
    def _multiple(self) -> int:
        return self.batch_size * self.replicas

    def _order(self, things: list[Thing], generator: torch.Generator) -> list[Thing]:
        if not self.shuffle:
            return things
        return [things[i] for i in torch.randperm(len(things), generator=generator).tolist()]


def check_boundaries(boundaries: Sequence[int]) -> tuple[int, ...]:
    """Return the boundaries; ConfigError unless there are two or more, none negative, each larger than the one
    before.
    """
    found = tuple(int(b) for b in boundaries)
    if len(found) < 2 or found[0] < 0 or any(low >= high for low, high in pairwise(found)):
        raise ConfigError(
            f"train.bucket_boundaries is {list(boundaries)}; it needs at least two frame counts, "
            f"from 0 up, each larger than the one before, such as {list(BOUNDARIES)}."
        )
    return found
