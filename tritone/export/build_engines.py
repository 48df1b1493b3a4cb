"""Export a checkpoint, check that what came out computes the same, and record what it was made from.

    python export/build_engines.py --model-dir checkpoints/nano --out build/nano
    python export/build_engines.py --model-dir checkpoints/nano --out build/nano \\
        --formats torchscript,onnx,tensorrt,llm --precision fp32,fp16

Only what is missing or stale is built; a second run does nothing. Progress goes to stderr, the summary to stdout. The
exit status is 1 when anything fails its checks; such a file is deleted again. `--target` chooses what a server of that
kind loads: onnxruntime files in fp32 on a CPU, TensorRT engines in mixed fp16 on a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Idle OpenMP threads that spin make every other process on the machine slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tritone.build import manifest, targets
from tritone.build.manifest import Entry, Hashes, Identity
from tritone.build.targets import Artifact, Selection
from tritone.catalog import open_family
from tritone.errors import ArtifactError, TritoneError
from tritone.stage import Family


@dataclass(frozen=True)
class Job:
    """One artifact to build and why."""

    artifact: Artifact
    identity: Identity
    reason: str


@dataclass(frozen=True)
class Result:
    """What became of a job: the manifest's entry, and what failed if anything did."""

    job: Job
    entry: Entry
    failure: str


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, required=True, help="checkpoint directory in its publisher's layout")
    parser.add_argument("--out", type=Path, required=True, help="build folder, for example build/nano")
    parser.add_argument("--target", default="cpu", choices=targets.TARGETS, help="default: %(default)s")
    parser.add_argument("--formats", help=f"comma-separated, of {','.join(targets.FORMATS)} (default: the target's)")
    parser.add_argument(
        "--precision", help=f"comma-separated, of {','.join(targets.PRECISIONS)} (default: the target's)"
    )
    parser.add_argument(
        "--lm-precision", choices=targets.GENAI_PRECISIONS, help="weights of the CPU's language model (default: int8)"
    )
    parser.add_argument("--stage", help="only this stage, or the language model's name")
    parser.add_argument(
        "--compute-capability", help="GPU engines are built for, such as 8.9 (default: this machine's, or portable)"
    )
    parser.add_argument(
        "--profile", action="append", default=[], metavar="AXIS=LO/OPT/HI", help="other engine sizes than declared"
    )
    parser.add_argument("--quick", action="store_true", help="check at the smallest and usual sizes only")
    parser.add_argument("--force", action="store_true", help="build again what is current")
    parser.add_argument("--dry-run", action="store_true", help="say what would be built and why, and build nothing")
    return parser.parse_args(arguments)


def selection(args: argparse.Namespace) -> Selection:
    """What the command line asks for."""
    chosen = targets.for_target(args.target)
    if args.formats:
        chosen = replace(chosen, formats=tuple(args.formats.split(",")))
    if args.precision:
        chosen = replace(chosen, precisions=tuple(args.precision.split(",")))
    return replace(chosen, llm=args.lm_precision) if args.lm_precision else chosen


def with_engines(family: Family, chosen: Selection, args: argparse.Namespace) -> tuple[Selection, Any, str]:
    """Return the selection with its engines' platform, their options, and why there can be none (then without them)."""
    if "tensorrt" not in chosen.formats:
        return chosen, None, ""
    from tritone.export import tensorrt_options, to_tensorrt

    options = tensorrt_options.options(args.out, args.compute_capability, args.profile, family.stages)
    try:
        return replace(chosen, platform=to_tensorrt.platform(options)), options, ""
    except ArtifactError as error:
        return replace(chosen, formats=tuple(name for name in chosen.formats if name != "tensorrt")), None, str(error)


def plan(family: Family, args: argparse.Namespace, chosen: Selection, hashes: Hashes) -> list[Job]:
    """What has to be built, in order."""
    wanted = targets.artifacts(family, chosen)
    if args.stage:
        wanted = targets.only(wanted, args.stage)
    checkpoint = manifest.checkpoint_hash(args.model_dir, hashes)
    jobs, rebuilt = [], set()
    for artifact in wanted:
        identity = manifest.identity(artifact, family, checkpoint)
        reason = "asked for" if args.force else manifest.problem(args.out, artifact.key, identity, hashes)
        if not reason and artifact.source in rebuilt:
            reason = f"is made from {artifact.source}, which is built again"
        if reason:
            jobs.append(Job(artifact, identity, reason))
            rebuilt.add(artifact.key)
    return jobs


def run(jobs: list[Job], family: Family, args: argparse.Namespace, engine: Any, hashes: Hashes) -> Iterator[Result]:
    """Build the jobs in order; what fails is not recorded, and nothing is made from it."""
    from tqdm import tqdm

    from tritone.engines.call import torch_call
    from tritone.export.make_artifact import Bench, make
    from tritone.parity.compare import Row

    seed = int(time.time())
    bench = Bench(family, args.model_dir, args.out, torch_call(family.stages), seed, args.quick, engine)
    failed: set[str] = set()
    with tqdm(jobs, desc="exporting", unit="file", file=sys.stderr, dynamic_ncols=True) as bar:
        for job in bar:
            artifact, path = job.artifact, args.out / job.artifact.key
            bar.set_postfix_str(artifact.key)
            began = time.monotonic()
            rows: list[Row] = []
            tools: tuple[str, ...] = ()
            if artifact.source in failed:
                failure = f"{artifact.source} failed"
            else:
                try:
                    rows, tools = make(artifact, bench)
                    failure = "; ".join(
                        f"{row.point} {row.problem} (error {row.error:.1e})" for row in rows if not row.passed
                    )
                except ArtifactError as error:
                    rows, tools, failure = [], (), str(error)
            if failure:
                failed.add(artifact.key)
                manifest.discard(args.out, artifact.key)
            entry = Entry(
                job.identity,
                "" if failure else hashes.tree(path),
                0 if failure else sum(file.stat().st_size for file in manifest.files(path)),
                round(time.monotonic() - began, 2),
                max((row.error for row in rows), default=None),
                targets.installed(tools),
                targets.data_file(path).is_file(),
            )
            if not failure:
                manifest.record(args.out, artifact.key, entry)
            yield Result(job, entry, failure)


def summary(results: list[Result]) -> str:
    """Return the results as aligned text."""
    lines = [f"{'what':22} {'format':11} {'precision':11} {'MB':>7} {'seconds':>7} {'error':>8}"]
    for result in results:
        artifact, entry = result.job.artifact, result.entry
        error = "-" if entry.error is None else f"{entry.error:.1e}"
        lines.append(
            f"{artifact.name:22} {artifact.format:11} {artifact.precision:11} {entry.bytes / 1e6:7.1f} "
            f"{entry.seconds:7.1f} {error:>8}{'  FAILED ' + result.failure if result.failure else ''}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Build what is needed; returns the exit status."""
    args = parse(arguments)
    try:
        family = open_family(args.model_dir)
        chosen, engine, lacking = with_engines(family, selection(args), args)
        with manifest.locked(args.out, lambda: print(f"{args.out}: waiting for another build", file=sys.stderr)):
            hashes = Hashes(args.out / manifest.HASHES)
            jobs = plan(family, args, chosen, hashes)
            results = []
            if args.dry_run or not jobs:
                lines = [f"{args.out / job.artifact.key} {job.reason}" for job in jobs]
                print("\n".join(lines) or f"{args.out} is up to date")
            else:
                results = list(run(jobs, family, args, engine, hashes))
                hashes.save()
                print(summary(results))
        bad = [result.job.artifact.key for result in results if result.failure]
        if bad:
            raise ArtifactError(f"{', '.join(bad)} failed and was removed; see the table")
        if lacking:
            raise ArtifactError(f"no TensorRT engines were built: {lacking}. The other formats are in {args.out}.")
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
