"""The time of each stage: its ONNX file in onnxruntime beside its torch module, same inputs, same threads.

    python benchmarks/stages.py CHECKPOINT [--build FOLDER] [--at opt] [--threads 1] [--repeats 5]

The two run in turn, so that a busy machine slows both; the fastest repeat of each counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import FRESH, Table, new_figure, write_report
from tritone.build.layout import stage_path
from tritone.catalog import open_family
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.errors import ArtifactError, ConfigError, TritoneError
from tritone.stage import Call, Family, Stage


def fastest(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the seconds of each run's fastest of `repeats` turns, after one that is not counted."""
    for run in runs:
        run()
    best = [float("inf")] * len(runs)
    for _ in range(repeats):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def measure(stage: Stage, in_torch: Call, in_onnx: Call, which: str, repeats: int) -> dict[str, Any]:
    """Return milliseconds of one stage in both engines at its "lo", "opt" or "hi" sizes; torch's is None for a
    ready-made file.
    """
    sizes = stage.sizes(which)
    arrays = stage.example(sizes)
    runs = [lambda: in_onnx(stage.name, **arrays)]
    if stage.build is not None:
        runs.append(lambda: in_torch(stage.name, **arrays))
    times = [1000.0 * seconds for seconds in fastest(runs, repeats)]
    return {"stage": stage.name, "sizes": sizes, "onnx_ms": times[0], "torch_ms": times[1] if len(times) > 1 else None}


def chosen(family: Family, names: str | None) -> list[Stage]:
    """Return the stages with these comma-separated names, or all; ConfigError lists the known ones."""
    try:
        return [family.stage(name) for name in names.split(",")] if names else list(family.stages)
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None


def publish(name: str, rows: Sequence[dict[str, Any]], settings: dict[str, Any], folder: Path) -> Path:
    """Write the three files; return the page."""
    sizes = [", ".join(f"{axis} {size}" for axis, size in row["sizes"].items()) for row in rows]
    cells = [[row["stage"], at, row["onnx_ms"], row["torch_ms"]] for row, at in zip(rows, sizes, strict=True)]
    figure, axes = new_figure(height=0.5 * len(rows) + 1.5)
    for shift, key, label in ((-0.2, "onnx_ms", "onnxruntime"), (0.2, "torch_ms", "torch")):
        axes.barh([index + shift for index in range(len(rows))], [row[key] or 0.0 for row in rows], 0.4, label=label)
    axes.set_yticks(range(len(rows)), [row["stage"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.legend()
    table = Table("Milliseconds per call", ["stage", "sizes", "onnxruntime", "torch"], cells)
    return write_report(name, "Time of each stage", {**settings, "stages": list(rows)}, [table], figure, folder)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(description="Time of each exported stage beside its torch module.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--build", type=Path, help="folder of the exported files (default build/NAME)")
    parser.add_argument("--at", choices=("lo", "opt", "hi"), default="opt", help="declared sizes to use")
    parser.add_argument("--stages", help="comma-separated; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--name", default="stages", help="file name of the results (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=FRESH, help="folder of the results (default %(default)s)")
    options = parser.parse_args(arguments)
    build = options.build or Path(__file__).resolve().parents[1] / "build" / options.checkpoint.resolve().name
    try:
        family = open_family(options.checkpoint)
        stages = chosen(family, options.stages)
        missing = [stage.name for stage in stages if not stage_path(build, stage.name).is_file()]
        if missing:
            remedy = f"run: tritone build {options.checkpoint} --out {build}"
            raise ArtifactError(f"{build} has no exported {', '.join(missing)}; {remedy}")
        import torch

        torch.set_num_threads(options.threads)
        in_torch, in_onnx = torch_call(stages), onnx_call(build, stages, options.threads)
        rows = [measure(stage, in_torch, in_onnx, options.at, options.repeats) for stage in stages]
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    settings = {"checkpoint": options.checkpoint.name, "at": options.at, "threads": options.threads}
    print(publish(options.name, rows, settings, options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
