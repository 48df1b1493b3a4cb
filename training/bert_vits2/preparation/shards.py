"""Work on many items: shards of the items, and the processes that run them: local, Ray or Spark.

Shards are disjoint and depend on the order of the items alone. Everywhere the same function runs on the same items, and
the results arrive in the order of the items, so that the output does not depend on where it was computed.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tritone.errors import ConfigError, EnvironmentProblem, TritoneError

ENGINES = ("local", "ray", "spark")
AHEAD = 4
"""Tasks submitted to Ray per worker before the first result is awaited, and partitions of a Spark job per core."""
BLOCK = 8192
"""Items of one Spark job; the results of earlier jobs are kept when a later job fails."""

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


def mapped(
    function: Callable[[Item], Result], items: Sequence[Item], engine: str = "local", workers: int = 0
) -> Iterator[Result]:
    """Yield `function` of every item, in order, as soon as it is computed; an exception ends the work.

    Args:
        function: a module-level function (or a partial of one), which other processes can import.
        engine: one of `ENGINES`. "ray" and "spark" use the cluster given by their environment variables, or start one
            on this machine; all machines of a cluster need the files under the same path.
        workers: number of processes of "local" (0 uses this process alone), limit of concurrent tasks of "ray";
            "spark" uses all its cores.

    Raises:
        ConfigError: the engine is unknown.
        EnvironmentProblem: the engine is not installed.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; the engines are {', '.join(ENGINES)}.")
    runs = {"local": _local, "ray": _ray, "spark": _spark}
    return runs[engine](function, items, workers)


def _local(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
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


def _ray(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise EnvironmentProblem("--engine ray needs Ray: run pip install 'tritone[ray]'.") from error
    started = not ray.is_initialized()
    if started:
        size: dict[str, Any] = {"num_cpus": workers or None, "include_dashboard": False}
        if os.environ.get("RAY_ADDRESS"):
            size = {}
        ray.init(log_to_driver=False, **size)
    try:
        remote: Any = ray.remote(_guarded)
        shared = ray.put(function)
        room = AHEAD * (workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(remote.remote(shared, item))
            if len(waiting) >= room:
                yield _opened(ray.get(waiting.popleft()))
        while waiting:
            yield _opened(ray.get(waiting.popleft()))
    finally:
        if started:
            ray.shutdown()


def _spark(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EnvironmentProblem("--engine spark needs PySpark and a Java runtime: run pip install pyspark.") from error
    context = SparkSession.builder.appName("tritone").getOrCreate().sparkContext
    for start in range(0, len(items), BLOCK):
        block = items[start : start + BLOCK]
        slices = min(len(block), AHEAD * context.defaultParallelism)
        for answer in context.parallelize(block, slices).map(partial(_guarded, function)).collect():
            yield _opened(answer)


def _guarded(function: Callable[[Item], Result], item: Item) -> Result | _Failure:
    """Return the result, or the error as a value: engines would wrap a raised error in their own types."""
    try:
        return function(item)
    except (TritoneError, OSError) as error:
        return _Failure(error)


def _opened(answer: Result | _Failure) -> Result:
    if isinstance(answer, _Failure):
        raise answer.error
    return answer


@dataclass(frozen=True)
class _Failure:
    error: Exception
