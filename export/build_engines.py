"""Export a checkpoint, check that what came out computes the same, and record what it was made from.

    python export/build_engines.py --model-dir checkpoints/nano --out build/nano

Only what is missing or stale is built; a second run does nothing. Progress goes to stderr, the summary to stdout. The
exit status is 1 when anything fails its checks; such a file is deleted again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Idle OpenMP threads that spin make every other process on the machine slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tritone import artifacts
from tritone.artifacts import Entry, Hashes, Identity
from tritone.catalog import open_family
from tritone.errors import ArtifactError, ConfigError, TritoneError
from tritone.stage import Family, Stage

FORMATS = ("onnx", "llm")


@dataclass(frozen=True)
class Job:
    """One artefact to build and why."""

    key: str
    name: str
    identity: Identity
    reason: str


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, required=True, help="checkpoint directory in its publisher's layout")
    parser.add_argument("--out", type=Path, required=True, help="build folder, for example build/nano")
    parser.add_argument("--formats", default=",".join(FORMATS), help="comma-separated, of: %(default)s")
    parser.add_argument("--lm-precision", default="int8", choices=("int8", "int4", "fp32"), help="default: %(default)s")
    parser.add_argument("--stage", help="only this stage, or the language model's name")
    parser.add_argument("--quick", action="store_true", help="check at the smallest and usual sizes only")
    parser.add_argument("--force", action="store_true", help="build again what is current")
    parser.add_argument("--dry-run", action="store_true", help="say what would be built and why, and build nothing")
    return parser.parse_args(arguments)


def plan(family: Family, args: argparse.Namespace, hashes: Hashes) -> list[Job]:
    """What has to be built, in order, under the command line's choices."""
    formats = args.formats.split(",")
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ConfigError(f"unknown format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    llm = family.language_model
    names = {artifacts.stage_key(stage.name): stage.name for stage in family.stages}
    if llm is not None:
        names[artifacts.llm_key(args.lm_precision)] = llm.name
    if args.stage and args.stage not in names.values():
        raise ConfigError(f"{family.name} has no stage {args.stage!r}; there are {', '.join(names.values())}")
    jobs = []
    for key, identity in artifacts.identities(family, args.model_dir, hashes, args.lm_precision).items():
        if key.split("/")[0] in formats and args.stage in (None, names[key]):
            reason = "asked for" if args.force else artifacts.problem(args.out, key, identity, hashes)
            if reason:
                jobs.append(Job(key, names[key], identity, reason))
    return jobs


def build(job: Job, family: Family, args: argparse.Namespace, reference: Any) -> tuple[list[Any], tuple[str, ...]]:
    """Export one artefact and compare it with torch: its parity rows, and the packages that made it."""
    from export import parity

    seed = int(time.time())
    llm = family.language_model
    if llm is not None and job.name == llm.name:
        from export import to_genai
        from tritone.lm.genai import GenaiModel

        to_genai.export_llm(llm, args.out / job.key, args.lm_precision)
        with GenaiModel(args.out / job.key).session() as session:
            return [parity.compare_llm(llm, session, args.lm_precision, seed)], to_genai.TOOLS
    from export import to_onnx
    from tritone.call import onnx_call

    stage: Stage = family.stage(job.name)
    if stage.build is None:
        to_onnx.link_ready_made(stage, args.model_dir, args.out / job.key)
        return [], to_onnx.TOOLS
    to_onnx.export_stage(stage, args.out / job.key, reference.module(stage.name))
    engine = onnx_call(args.out, [stage], eager=True)
    return list(parity.compare_stage(stage, reference, engine, "onnx fp32", seed, args.quick)), to_onnx.TOOLS


def run(jobs: list[Job], family: Family, args: argparse.Namespace, hashes: Hashes) -> Iterator[tuple[Job, Entry, str]]:
    """Build the jobs in order; yields what was recorded, or what failed and why (then it is not recorded)."""
    from tqdm import tqdm

    from tritone.call import torch_call

    reference = torch_call(family.stages)
    with tqdm(jobs, desc="exporting", unit="file", file=sys.stderr, dynamic_ncols=True) as bar:
        for job in bar:
            bar.set_postfix_str(job.name)
            began = time.monotonic()
            rows, tools = build(job, family, args, reference)
            path = args.out / job.key
            failures = "; ".join(f"{row.point} {row.problem} (error {row.error:.1e})" for row in rows if not row.passed)
            errors = [row.error for row in rows]
            entry = Entry(
                job.identity,
                hashes.tree(path),
                sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()),
                round(time.monotonic() - began, 2),
                max(errors) if errors else None,
                artifacts.installed(tools),
            )
            if failures:
                artifacts.discard(args.out, job.key)
            else:
                artifacts.record(args.out, job.key, entry)
            yield job, entry, failures


def summary(results: list[tuple[Job, Entry, str]]) -> str:
    """The results as aligned text."""
    lines = [f"{'what':22} {'format':6} {'precision':9} {'MB':>7} {'seconds':>7} {'error':>8}"]
    for job, entry, failures in results:
        error = "-" if entry.error is None else f"{entry.error:.1e}"
        lines.append(
            f"{job.name:22} {job.key.split('/')[0]:6} {job.identity.precision:9} {entry.bytes / 1e6:7.1f} "
            f"{entry.seconds:7.1f} {error:>8}{'  FAILED ' + failures if failures else ''}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Build what is needed; returns the exit status."""
    args = parse(arguments)
    try:
        family = open_family(args.model_dir)
        with artifacts.locked(args.out, lambda: print(f"{args.out}: waiting for another build", file=sys.stderr)):
            hashes = Hashes(args.out / artifacts.HASHES)
            jobs = plan(family, args, hashes)
            if args.dry_run or not jobs:
                print("\n".join(f"{args.out / job.key} {job.reason}" for job in jobs) or f"{args.out} is up to date")
                return 0
            results = list(run(jobs, family, args, hashes))
            hashes.save()
        print(summary(results))
        bad = [job.name for job, _, failures in results if failures]
        if bad:
            raise ArtifactError(f"the export of {', '.join(bad)} differs from the checkpoint; see the table")
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
