"""The metrics of a model process, which Triton shows on its metrics port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

TOKENS = ("tritone_lm_tokens_total", "Tokens the language model decoded")
KEPT = (
    ("tritone_voice_cache_entries", "Voices whose state is kept for their next stream"),
    ("tritone_voice_cache_bytes", "Memory that these states take"),
)


class Counters:
    """Counts tokens and shows what is kept, one change at a time: Triton 2.51 crashes when two threads change a metric.

    Args:
        triton: the module `triton_python_backend_utils`, which exists only in a process that Triton starts.
        model: the name that labels the metrics.
    """

    def __init__(self, triton: Any, model: str) -> None:
        self._triton, self._labels = triton, {"model": model}
        self._families: list[Any] = []  # a metric lives as long as its family
        self._lock = threading.Lock()
        self._tokens = self._metric(triton.MetricFamily.COUNTER, *TOKENS)
        self._kept: list[Any] = []

    def token(self) -> None:
        """Count one token."""
        with self._lock:
            self._tokens.increment(1)

    def show_kept(self, kept: Callable[[], tuple[int, int]] | None) -> None:
        """Show how many voices' states are kept and their bytes; a family that keeps none has no such metrics."""
        if kept is None:
            return
        with self._lock:
            if not self._kept:
                self._kept = [self._metric(self._triton.MetricFamily.GAUGE, *about) for about in KEPT]
            for gauge, value in zip(self._kept, kept(), strict=True):
                gauge.set(value)

    def _metric(self, kind: Any, name: str, description: str) -> Any:
        self._families.append(self._triton.MetricFamily(kind=kind, name=name, description=description))
        return self._families[-1].Metric(labels=self._labels)
