"""The metrics of a model process: changed by one thread at a time, and shown only where there is something to show."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tritone.server.counters import Counters


class Metric:
    """One metric, which complains when two threads change it at once, as Triton crashes then."""

    def __init__(self) -> None:
        self.value, self.busy = 0, threading.Lock()

    def increment(self, by: int) -> None:
        self.set(self.value + by)

    def set(self, value: int) -> None:
        assert self.busy.acquire(blocking=False), "two threads change a metric at once"
        threading.Event().wait(0.001)
        self.value = value
        self.busy.release()


class FakeTriton:
    """Stands in for Triton's module in a model process."""

    def __init__(self) -> None:
        self.made: dict[str, Metric] = {}
        made = self.made

        class MetricFamily:
            COUNTER, GAUGE = "counter", "gauge"

            def __init__(self, kind: str, name: str, description: str) -> None:
                self.name = name

            def Metric(self, labels: dict[str, str]) -> Metric:
                assert labels == {"model": "m"}
                return made.setdefault(self.name, Metric())

        self.MetricFamily: Any = MetricFamily


def test_tokens_of_many_threads_are_counted_one_after_the_other() -> None:
    triton = FakeTriton()
    counters = Counters(triton, "m")
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(counters.token) for _ in range(40)]
        jobs += [pool.submit(counters.show_kept, lambda: (2, 30)) for _ in range(10)]
    assert all(job.exception() is None for job in jobs)
    assert {name: metric.value for name, metric in triton.made.items()} == {
        "tritone_lm_tokens_total": 40,
        "tritone_voice_cache_entries": 2,
        "tritone_voice_cache_bytes": 30,
    }


def test_a_family_that_keeps_nothing_shows_no_gauge() -> None:
    triton = FakeTriton()
    Counters(triton, "m").show_kept(None)
    assert list(triton.made) == ["tritone_lm_tokens_total"]
