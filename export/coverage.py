"""Build every format of one checkpoint of each family, and record what was compared: `benchmarks/results/coverage`.

    python export/coverage.py [FAMILY ...] [--quick] [--formats onnx,llm]

Families are cosyvoice1, cosyvoice2, cosyvoice3, bert_vits2 and moss_ttsd (default: all). cosyvoice2 is the nano voice,
the others are the tiny checkpoints of the tests, which are written to `build/coverage`. Each artifact is recorded as
soon as it is compared, so a run may be stopped and continued: what is recorded for the present weights and code is not
built again. `--quick` leaves out the largest sizes; a run without it adds them. `python export/docs.py` makes the
tables of README.md and docs/coverage.md from the records.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from export.recorded import RECORDS, key_of, record_of
from tritone.build import artifacts, manifest, targets
from tritone.build.artifacts import Artifact
from tritone.build.files import write_json
from tritone.build.hashes import Hashes
from tritone.build.identity import checkpoint_hash, identity
from tritone.build.layout import stage_key
from tritone.build.targets import Selection
from tritone.catalog import open_family
from tritone.export.build_engines import Job, Result, command_line, new_build, run, with_tensorrt
from tritone.parity.report import plain
from tritone.stage import Family

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "coverage"
NANO = "nano, trained weights"
TINY = "tiny, random weights"


def write_v1(folder: Path) -> None:
    """Write the tiny checkpoint of CosyVoice 1."""
    importlib.import_module("support.tiny_checkpoints").write_networks(folder, 1)
    importlib.import_module("support.front_helpers").write_whisper_vocabulary(folder)


def write_v3(folder: Path) -> None:
    """Write the tiny checkpoint of CosyVoice 3."""
    importlib.import_module("support.tiny_checkpoints").write_tiny(folder, 3)


def write_bert_vits2(folder: Path) -> None:
    """Write the tiny checkpoint of Bert-VITS2."""
    importlib.import_module("support.bert_vits2.folder").write_tiny(folder)


def write_moss_ttsd(folder: Path) -> None:
    """Write the tiny checkpoint of MOSS-TTSD."""
    folder.mkdir(parents=True, exist_ok=True)
    importlib.import_module("support.moss_helpers").write_checkpoint(folder)


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "cosyvoice1": write_v1,
    "cosyvoice3": write_v3,
    "bert_vits2": write_bert_vits2,
    "moss_ttsd": write_moss_ttsd,
}
"""What writes the tiny checkpoint of a family; cosyvoice2 has the nano voice."""
FAMILIES = ("cosyvoice2", *WRITERS)


def checkpoint(name: str) -> tuple[Path, str]:
    """Return the folder of a family's checkpoint, written if need be, and what it is."""
    if name not in WRITERS:
        return ROOT / "checkpoints" / "nano", NANO
    folder = WORK / name / "checkpoint"
    if not folder.is_dir():
        part = folder.with_name("checkpoint.part")
        sys.path.insert(0, str(ROOT / "tests"))
        WRITERS[name](part)
        part.rename(folder)
    return folder, TINY


def everything(family: Family, chosen: Selection) -> list[Artifact]:
    """Return every artifact of those formats, each once and after its source."""
    listed = [a for llm in targets.LLM_FOLDERS for a in artifacts.artifacts(family, replace(chosen, llm=llm))]
    return list({artifact.key: artifact for artifact in listed}.values())


def missing(entry: Mapping[str, Any] | None, wanted: Mapping[str, Any], quick: bool) -> str:
    """Return the reason to build and compare an artifact, or an empty string."""
    if entry is None:
        return "is not recorded"
    if entry["identity"] != wanted:
        return "was recorded for other weights or code"
    points = [point["point"] for point in entry["compared"]]
    short = not quick and "usual" in points and "largest" not in points
    return "was not compared at the largest sizes" if short else ""


def jobs(family: Family, args: argparse.Namespace, chosen: Selection, hashes: Hashes, known: Any) -> Iterator[Job]:
    """Yield the jobs of one family, each with its reason."""
    hashed = checkpoint_hash(family, args.model_dir, hashes)
    rebuilt = set()
    for artifact in everything(family, chosen):
        current = identity(artifact, family, hashed)
        reason = missing(known.get(artifact.key), asdict(current), args.quick)
        if not reason and artifact.format == "onnx":  # others are made from it
            reason = manifest.problem(args.out, artifact.key, current, hashes) or ""
        if not reason and artifact.source in rebuilt:
            reason = f"is made from {artifact.source}, which is rebuilt"
        if reason:
            rebuilt.add(artifact.key)
            yield Job(artifact, current, reason)


def described(result: Result, family: Family) -> dict[str, Any]:
    """Return the record of one artifact."""
    artifact = result.job.artifact
    stage = next((stage for stage in family.stages if stage.name == artifact.name), None)
    return {
        "name": artifact.name,
        "format": artifact.format,
        "precision": artifact.precision,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "whole_fp32": artifact.precision == "fp16" and stage is not None and "*" in stage.keep_fp32,
        "own_file": stage is not None and artifact.key == stage_key(stage.name) and stage.build is None,
        "failure": result.failure,
        "seconds": result.entry.seconds,
        "tools": dict(result.entry.tools),
        "identity": asdict(result.job.identity),
        "compared": [
            {"point": row.point, "sizes": dict(row.sizes), "error": row.error, "limit": row.tolerance}
            for row in result.rows
        ],
    }


def record(name: str, args: argparse.Namespace) -> None:
    """Build and record what is missing of one family."""
    folder, what = checkpoint(name)
    options = [str(folder), f"--out={WORK / name / 'out'}", "--precision=fp32,fp16", *(["--quick"] * args.quick)]
    parsed = command_line().parse_args(options)
    family = open_family(folder)
    chosen = Selection(tuple(args.formats.split(",")), targets.PRECISIONS)
    chosen, plans, problem = with_tensorrt(family, chosen, parsed)
    if problem:
        print(f"{name}: no TensorRT engines: {problem}", file=sys.stderr)
    hashes = Hashes(parsed.out / manifest.HASHES)
    path = RECORDS / f"{name}.json"
    found = record_of(name)
    todo = list(jobs(family, parsed, chosen, hashes, found["artifacts"]))
    for result in run(todo, new_build(family, parsed, plans), hashes):
        found["artifacts"][result.job.artifact.key] = described(result, family)
        ordered = {key: found["artifacts"][key] for key in sorted(found["artifacts"], key=key_of)}
        RECORDS.mkdir(parents=True, exist_ok=True)
        write_json(path, plain({"family": name, "checkpoint": what, "artifacts": ordered}))
        if time.monotonic() > args.until:
            return


def main() -> int:
    """Record the named families; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--formats", default=",".join(targets.FORMATS), help="comma-separated (default: all)")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing new after so many")
    args = parser.parse_args()
    args.until = time.monotonic() + 60 * args.minutes
    unknown = [name for name in args.families if name not in FAMILIES]
    if unknown:
        parser.error(f"there is no family {', '.join(unknown)} to record; there are {', '.join(FAMILIES)}")
    for name in args.families or FAMILIES:
        if time.monotonic() < args.until:
            record(name, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
