"""Settings of property tests: few fixed examples in every run, as many random ones as asked for otherwise.

TRITONE_FUZZ=20000 pytest tests/unit/training/test_fuzz_corpus.py   # so many random examples of each property
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

ASKED = int(os.environ.get("TRITONE_FUZZ", "0"))


def examples(count: int) -> Callable[[Any], Any]:
    """Return the decorator that runs a property on so many examples, always the same ones unless more are asked for."""
    return settings(
        max_examples=ASKED or count,
        derandomize=not ASKED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
