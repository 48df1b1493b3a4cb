"""Time and memory of compiling a full-size network: CosyVoice 2's with random weights.

    python benchmarks/cosyvoice/full_size_engine.py [--stage flow_estimator] [--precision fp32,fp16] [--json FILE]

Every step - ONNX export, fp16 conversion, engine - runs in its own process, whose peak memory the system
reports, so that steps do not hide each other's peaks. No checkpoint and no GPU are needed; weights do not change the
time. The limit applies to CPU seconds; wall seconds, reported beside them, depend on the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import stamp
from tritone.build.layout import plan_key, stage_key
from tritone.build.targets import PRECISIONS, check
from tritone.errors import ArtifactError, TritoneError
from tritone.stage import Stage

FRESH = Path(__file__).resolve().parents[2] / "build" / "benchmarks" / "full_size_engine.json"
LIMITS = {"cpu_seconds": 60.0, "peak_gib": 4.0}
"""The limits on compiling the flow estimator."""


def full_size(name: str) -> Stage:
    """Return a stage at the official CosyVoice 2 sizes, with random weights; ConfigError lists the stages."""
    from tritone.families.cosyvoice.config.common import HiftConfig
    from tritone.families.cosyvoice.config.v2 import FlowConfig
    from tritone.families.cosyvoice.flow.v2.stages import flow_stages
    from tritone.families.cosyvoice.vocoder.stages import vocoder_stages

    def flow() -> Any:
        from tritone.families.cosyvoice.flow.v2.network import Flow

        return Flow(FlowConfig()).eval()

    def hift() -> Any:
        from tritone.families.cosyvoice.vocoder.hift import Hift

        return Hift(HiftConfig()).eval()

    stages = {stage.name: stage for stage in (*flow_stages(FlowConfig(), flow), *vocoder_stages(HiftConfig(), hift))}
    check("stage", [name], tuple(stages))
    return stages[name]


def run_step(step: str, stage: Stage, folder: Path, capability: str) -> dict[str, Any]:
    """Run one step in this process; return its time, file size and memory, for engines also platform and GPU memory."""
    fp32, fp16 = folder / stage_key(stage.name), folder / stage_key(stage.name, "fp16")
    began = time.monotonic()
    found: dict[str, Any] = {}
    if step == "onnx fp32":
        from tritone.export.to_onnx import export_stage

        path = fp32
        export_stage(stage, path)
    elif step == "onnx fp16":
        from tritone.export.to_fp16 import convert_stage

        path = fp16
        convert_stage(stage, fp32, path)
    else:
        from tritone.export.to_tensorrt import Options, build_stage

        precision = step.split()[1]
        path = folder / plan_key(stage.name, precision)
        built = build_stage(stage, fp32 if precision == "fp32" else fp16, path, Options(capability))
        found = {"platform": built.platform, "gpu_gib_at_largest": round((built.activations or 0) / 2**30, 2)}
    found |= {"seconds": round(time.monotonic() - began, 1), "megabytes": round(path.stat().st_size / 1e6, 1)}
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Counts all threads, and the imports.
    found["cpu_seconds"] = round(used.ru_utime + used.ru_stime, 1)
    return found | {"peak_gib": round(used.ru_maxrss / 2**20, 2)}


def in_a_process(step: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the result of `run_step` in a new process; ArtifactError when it fails."""
    command = [sys.executable, str(Path(__file__)), "--stage", args.stage, "--step", step, "--folder", str(folder)]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    done = subprocess.run(
        [*command, "--compute-capability", args.compute_capability], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise ArtifactError(f"{step} of {args.stage} failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
    return {"step": step, **json.loads(done.stdout.splitlines()[-1])}


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return the results of all steps in order; each is printed as it ends."""
    precisions = args.precision.split(",")
    check("precision", precisions, PRECISIONS)
    steps = ["onnx fp32", *(["onnx fp16"] if "fp16" in precisions else []), *(f"engine {p}" for p in precisions)]
    rows = []
    print(f"{'step':12} {'seconds':>8} {'CPU s':>7} {'peak GiB':>9} {'file MB':>8} {'GPU GiB':>8}")
    for step in steps:
        row = in_a_process(step, args, folder)
        rows.append(row)
        gpu = row.get("gpu_gib_at_largest", "-")
        times = f"{row['seconds']:8.1f} {row['cpu_seconds']:7.1f}"
        print(f"{step:12} {times} {row['peak_gib']:9.2f} {row['megabytes']:8.1f} {gpu:>8}", flush=True)
    return rows


def too_much(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each engine that exceeded a limit of time or memory."""
    return [
        f"{row['step']} took {row[name]} {name}; the limit is {limit}"
        for row in rows
        if row["step"].startswith("engine")
        for name, limit in LIMITS.items()
        if row[name] > limit
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; the exit status is 1 when an engine took more than `LIMITS`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="flow_estimator", help="default: %(default)s")
    parser.add_argument("--precision", default="fp32,fp16", help="default: %(default)s")
    parser.add_argument(
        "--compute-capability", default="8.9", help="empty for this machine's GPU (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, default=FRESH, help="default: %(default)s")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    try:
        stage = full_size(args.stage)
        if args.step:
            print(json.dumps(run_step(args.step, stage, args.folder, args.compute_capability)))
            return 0
        with tempfile.TemporaryDirectory(prefix="tritone-engine-") as folder:
            rows = measure(args, Path(folder))
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sizes = {axis.name: [axis.lo, axis.opt, axis.hi] for axis in stage.axes}
    found = {"stage": args.stage, "profile": sizes, "cores": os.cpu_count(), "load": os.getloadavg(), "limits": LIMITS}
    found["steps"] = rows
    args.json.write_text(json.dumps(stamp() | found, indent=1) + "\n")
    for problem in too_much(rows):
        print(f"error: {problem}", file=sys.stderr)
    return 1 if too_much(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
