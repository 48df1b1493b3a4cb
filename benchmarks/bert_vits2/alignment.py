"""The time of the alignment search of a training batch, compared with a Python loop over rows and frames.

    python benchmarks/bert_vits2/alignment.py [--batch 16] [--frames 600] [--phones 200] [--repeats 7]

The loop is plain NumPy: row by row, with one vector operation over the phones for each frame. Both must find the same
paths. The script prints milliseconds per batch (the fastest of the repeats) and writes them into build/benchmarks/.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import Table, write_report
from training.bert_vits2.alignment import monotonic_path

SPEEDUP = 5.0
"""The search must be this many times as fast as the loop."""
RANDOM_SHARE = 0.25
"""The largest share by which rows are shorter than the longest, as in a bucket of a corpus."""


def python_loop(scores: np.ndarray, frames: np.ndarray, phones: np.ndarray) -> np.ndarray:
    """Return paths like those of `monotonic_path`, `[batch, frames, phones]`, by a loop over rows and frames."""
    path = np.zeros_like(scores)
    for row, (t_y, t_x) in enumerate(zip(frames, phones, strict=True)):
        best = np.full((t_y, t_x), -np.inf, np.float32)
        best[0, 0] = scores[row, 0, 0]
        for y in range(1, t_y):
            best[y] = best[y - 1]
            np.maximum(best[y, 1:], best[y - 1, :-1], out=best[y, 1:])
            best[y] += scores[row, y, :t_x]
        x = t_x - 1
        for y in range(t_y - 1, -1, -1):
            path[row, y, x] = 1.0
            if x > 0 and best[y - 1, x] < best[y - 1, x - 1]:
                x -= 1
    return path


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Return the milliseconds of the fastest of `repeats` calls."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def measure(batch: int, frames: int, phones: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of search and loop for one batch, and their ratio."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(batch, frames, phones)).astype(np.float32)
    shorter = 1 - RANDOM_SHARE * rng.random(batch)
    t_y, t_x = (np.maximum(1, size * shorter).astype(np.int64) for size in (frames, phones))
    given = torch.from_numpy(scores), torch.from_numpy(t_y), torch.from_numpy(t_x)
    if not np.array_equal(monotonic_path(*given).numpy(), python_loop(scores, t_y, t_x)):
        raise AssertionError("the two searches disagree")
    search, loop = (
        fastest(call, repeats) for call in (lambda: monotonic_path(*given), lambda: python_loop(scores, t_y, t_x))
    )
    return {"search_ms": search, "loop_ms": loop, "times": loop / search}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="rows of the larger batch")
    parser.add_argument("--frames", type=int, default=600, help="frames of its longest row (86 a second)")
    parser.add_argument("--phones", type=int, default=200, help="phones of its longest row, blanks included")
    parser.add_argument("--repeats", type=int, default=7, help="runs, of which the fastest counts")
    args = parser.parse_args()
    sizes = [(1, args.frames, args.phones), (args.batch, args.frames, args.phones)]
    results = {f"{b} x {y} x {x}": measure(b, y, x, args.repeats) for b, y, x in sizes}
    rows: list[list[str | float]] = [[name, *values.values()] for name, values in results.items()]
    table = Table("Alignment search", ("batch x frames x phones", "search ms", "Python loop ms", "times as fast"), rows)
    write_report("alignment", "Monotonic alignment search", results, [table])
    for name, values in results.items():
        print(f"{name}: search {values['search_ms']:.2f} ms, loop {values['loop_ms']:.1f} ms, {values['times']:.1f} x")
    if any(values["times"] < SPEEDUP for values in results.values()):
        raise SystemExit(f"the search must be {SPEEDUP:g} times as fast as the loop")


if __name__ == "__main__":
    main()
