"""Work on many items: shards of the items for several machines, and the processes of each.

Shards are disjoint and depend on the order of the items alone, and the results arrive in the order of the items, so
that the output does not depend on where it was computed.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tritone.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 0; the default is all items."""

    index: int = 0
    count: int = 1

    @staticmethod
    def parse(text: str) -> Shard:
        """Return the shard written as `i/n`; ConfigError unless 0 <= i < n."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not int(match[1]) < int(match[2]):
            raise ConfigError(f"--shard {text} is invalid; write i/n with i from 0 to n - 1, such as 0/4.")
        return Shard(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def take(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of this shard: every `count`-th, in order."""
        return list(items[self.index :: self.count])


def mapped(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0) -> Iterator[Result]:
    """Yield `function` of every item, in order, as soon as it is computed; an exception ends the work.

    Args:
        function: a module-level function (or a partial of one), which other processes can import.
        workers: number of processes; 0 uses this process alone.
    """
    if workers <= 0 or len(items) <= 1:
        yield from map(function, items)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(items)), _one_thread) as pool:
        yield from pool.imap(function, items, chunksize=max(1, min(16, len(items) // (4 * workers))))


def _one_thread() -> None:
    """Use one thread, because the other processes use the other cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
