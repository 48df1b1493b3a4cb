"""Export a checkpoint, compare every file with the checkpoint itself, and record what it was made from.

    tritone build checkpoints/nano
    tritone build checkpoints/nano --formats torchscript,onnx,tensorrt,llm --precision fp32,fp16

Only missing and stale artifacts are built; a second run does nothing. Progress goes to stderr, the summary to stdout.
An artifact that fails its comparison is deleted, and the exit status is then 1. `--target` selects what a server of
that target loads: onnxruntime files in fp32 on a CPU, TensorRT plans in mixed fp16 on a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Idle OpenMP threads that spin make every other process on the machine slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tritone.build import artifacts, layout, manifest, targets
from tritone.build.artifacts import Artifact
from tritone.build.disk import disk_problems, remove_leftovers
from tritone.build.files import locked
from tritone.build.hashes import Hashes
from tritone.build.identity import Identity, checkpoint_hash, identity
from tritone.build.manifest import Entry
from tritone.build.targets import Selection
from tritone.catalog import open_family
from tritone.cli.parser import Parser
from tritone.errors import ArtifactError, TritoneError
from tritone.stage import Family

if TYPE_CHECKING:
    from tritone.export.make_artifact import Build, Made
    from tritone.parity.compare import Row


@dataclass(frozen=True)
class Job:
    """One artifact to build, and why."""

    artifact: Artifact
    identity: Identity
    reason: str


@dataclass(frozen=True)
class Result:
    """The outcome of a job: the manifest's entry, why the job failed if it did, and the comparisons."""

    job: Job
    entry: Entry
    failure: str
    rows: Sequence[Row] = ()


def command_line() -> Parser:
    """Return the command's options."""
    parser = Parser(prog="tritone build", description=__doc__)
    parser.add_checkpoint()
    parser.add_argument("--out", type=Path, help="build folder (default: build/<name of the checkpoint>)")
    parser.add_argument("--target", default="cpu", choices=targets.TARGETS, help="the server the files are for")
    parser.add_argument("--formats", help=f"comma-separated, of {','.join(targets.FORMATS)} (default: the target's)")
    parser.add_argument(
        "--precision", help=f"comma-separated, of {','.join(targets.PRECISIONS)} (default: the target's)"
    )
    parser.add_argument(
        "--lm-precision", choices=targets.GENAI_PRECISIONS, help="weights of the CPU's language model (default: int8)"
    )
    parser.add_argument("--stage", help="only this stage, or the language model's name (default: all)")
    parser.add_argument(
        "--compute-capability", help="GPU the plans are for, such as 8.9 (default: this machine's, or portable)"
    )
    parser.add_argument(
        "--profile", action="append", default=[], metavar="AXIS=LO/OPT/HI",
        help="sizes of the plans (default: the declared range of each axis); may be repeated",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="compare at the smallest and usual sizes only")
    parser.add_argument("--force", action="store_true", help="also rebuild what is current")
    parser.add_argument(
        "--verify", action="store_true",
        help="read every byte of checkpoint and artifacts, also where size and time are as they were",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list what would be built and why, and build nothing")
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line, the build folder filled in."""
    args = command_line().parse_args(arguments)
    args.out = args.out or layout.default_folder(args.model_dir)
    return args


def selection(args: argparse.Namespace) -> Selection:
    """Return the selection the options ask for."""
    chosen = targets.for_target(args.target)
    if args.formats:
        chosen = replace(chosen, formats=tuple(args.formats.split(",")))
    if args.precision:
        chosen = replace(chosen, precisions=tuple(args.precision.split(",")))
    return replace(chosen, llm=args.lm_precision) if args.lm_precision else chosen


def with_tensorrt(family: Family, chosen: Selection, args: argparse.Namespace) -> tuple[Selection, Any, str]:
    """Return the selection with the platform of its plans, the builder's options, and an empty string.

    Where TensorRT cannot build, return the selection without plans, None, and the reason.
    """
    if "tensorrt" not in chosen.formats:
        return chosen, None, ""
    from tritone.export import tensorrt_options, to_tensorrt

    options = tensorrt_options.options(args.out, args.compute_capability, args.profile, family.stages)
    try:
        return replace(chosen, platform=to_tensorrt.platform(options)), options, ""
    except ArtifactError as error:
        return replace(chosen, formats=tuple(name for name in chosen.formats if name != "tensorrt")), None, str(error)


def list_jobs(family: Family, args: argparse.Namespace, chosen: Selection, hashes: Hashes) -> list[Job]:
    """Return the artifacts to build, in order, each with the reason."""
    selected = artifacts.artifacts(family, chosen)
    if args.stage:
        selected = artifacts.only(selected, args.stage)
    checkpoint = checkpoint_hash(family, args.model_dir, hashes)
    jobs, rebuilt = [], set()
    for artifact in selected:
        current = identity(artifact, family, checkpoint)
        reason = "--force was given" if args.force else manifest.problem(args.out, artifact.key, current, hashes)
        if not reason and artifact.source in rebuilt:
            reason = f"is made from {artifact.source}, which is rebuilt"
        if reason:
            jobs.append(Job(artifact, current, reason))
            rebuilt.add(artifact.key)
    return jobs


def new_build(family: Family, args: argparse.Namespace, options: Any) -> Build:
    """Return the objects the exporters share; the reference is the stages' torch modules in fp32."""
    from tritone.engines.torch import torch_call
    from tritone.export.make_artifact import Build

    return Build(family, args.model_dir, args.out, torch_call(family.stages), int(time.time()), args.quick, options)


def run(jobs: list[Job], build: Build, hashes: Hashes) -> Iterator[Result]:
    """Build the jobs in order and yield their results; nothing is made from an artifact that failed."""
    from tqdm import tqdm

    failed: set[str] = set()
    with tqdm(jobs, desc="exporting", unit="file", file=sys.stderr, dynamic_ncols=True) as bar:
        for job in bar:
            bar.set_postfix_str(job.artifact.key)
            result = run_job(job, build, failed, hashes)
            if result.failure:
                failed.add(job.artifact.key)
                manifest.discard(build.out, job.artifact.key)
            else:
                manifest.record(build.out, job.artifact.key, result.entry)
            yield result


def run_job(job: Job, build: Build, failed: set[str], hashes: Hashes) -> Result:
    """Build and compare one artifact unless its source is among the failed ones."""
    began = time.monotonic()
    if job.artifact.source in failed:
        return Result(job, entry(job, build, hashes, began, ([], ())), f"{job.artifact.source} failed")
    from tritone.export.make_artifact import make

    try:
        rows, tools = make(job.artifact, build)
    except ArtifactError as error:
        return Result(job, entry(job, build, hashes, began, ([], ())), str(error))
    failure = "; ".join(f"{row.point} {row.problem} (error {row.error:.1e})" for row in rows if not row.passed)
    return Result(job, entry(job, build, hashes, began, (rows, tools), bool(failure)), failure, rows)


def entry(job: Job, build: Build, hashes: Hashes, began: float, made: Made, failed: bool = True) -> Entry:
    """Return the manifest's entry of a job; a failed one has neither hash nor size."""
    rows, tools = made
    path = build.out / job.artifact.key
    return Entry(
        job.identity,
        "" if failed else hashes.tree(path),
        0 if failed else sum(file.stat().st_size for file in layout.files_of(path)),
        round(time.monotonic() - began, 2),
        max((row.error for row in rows), default=None),
        artifacts.installed(tools),
        not failed and layout.data_file(path).is_file(),
    )


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is missing or stale; return the exit status."""
    args = parse(arguments)
    try:
        family = open_family(args.model_dir)
        chosen, options, no_tensorrt = with_tensorrt(family, selection(args), args)
        waiting = f"{args.out}: waiting for another build"
        with disk_problems(args.out), locked(args.out, lambda: print(waiting, file=sys.stderr, flush=True)):
            remove_leftovers(args.out)
            manifest.read_manifest(args.out)  # a damaged one is said before minutes of work
            hashes = Hashes(args.out / manifest.HASHES, args.verify)
            jobs = list_jobs(family, args, chosen, hashes)
            if args.dry_run or not jobs:
                lines = [f"{args.out / job.artifact.key} {job.reason}" for job in jobs]
                print("\n".join(lines) or f"{args.out} is up to date")
                results = []
            else:
                results = list(run(jobs, new_build(family, args, options), hashes))
                hashes.save()
                print(summary(results))
        bad = [result.job.artifact.key for result in results if result.failure]
        if bad:
            raise ArtifactError(f"{', '.join(bad)} failed and was removed; see the table")
        if no_tensorrt:
            raise ArtifactError(f"no TensorRT plans were built: {no_tensorrt}. The other formats are in {args.out}.")
    except KeyboardInterrupt:
        print("stopped; finished artifacts are kept", file=sys.stderr)
        return 130
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
