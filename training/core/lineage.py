"""Steps and minutes spent on the weights that a run started from.

Kept in the run's folder as `started.json`, so that a model card can count all of a network's training.
"""

from __future__ import annotations

import json
from pathlib import Path

from training.core.run import FINISHED

STARTED = "started.json"


def record(out: Path, start: Path) -> None:
    """Write into `out` the steps and minutes of the run in `start` and its ancestors; zeros if it never finished."""
    out.mkdir(parents=True, exist_ok=True)
    own = json.loads((start / FINISHED).read_text()) if (start / FINISHED).exists() else {"steps": 0, "minutes": 0.0}
    steps, minutes = before(start)
    total = {"steps": own["steps"] + steps, "minutes": round(own["minutes"] + minutes, 1)}
    (out / STARTED).write_text(json.dumps(total))


def before(run: Path) -> tuple[int, float]:
    """Return (steps, minutes) spent before the run's own first step; (0, 0.0) if it started from random weights."""
    if not (run / STARTED).exists():
        return 0, 0.0
    earlier = json.loads((run / STARTED).read_text())
    return int(earlier["steps"]), float(earlier["minutes"])
