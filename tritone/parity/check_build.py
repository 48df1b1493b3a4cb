"""Does what was exported compute what was trained? Everything a build folder holds beside the fp32 torch modules.

    python export/parity.py --model-dir checkpoints/nano --out build/nano [--formats F] [--precision P] [--stage S]
        [--quick] [--say TEXT] [--json FILE] [--html FILE]

The exit status is 1 when an error is above its tolerance, a value is not finite, or a shape is wrong. Of a mixed fp16
graph that fails, the first node that leaves tolerance is named.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tritone.build import targets
from tritone.build.manifest import read_manifest
from tritone.build.targets import Artifact, Selection
from tritone.catalog import open_family
from tritone.engines.call import torch_call
from tritone.errors import ArtifactError, TritoneError
from tritone.parity.compare import LARGEST_BATCH, Row, compare_artifact, compare_llm
from tritone.stage import Family


def main(arguments: list[str] | None = None, report: Callable[[str], None] = print) -> int:
    """Compare everything that is built; returns the exit status."""
    from tritone.parity.report import table, write_html, write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, required=True, help="checkpoint directory")
    parser.add_argument("--out", type=Path, required=True, help="build folder")
    parser.add_argument("--formats", help=f"of {','.join(targets.FORMATS)} (default: all that is built)")
    parser.add_argument("--precision", help=f"of {','.join(targets.PRECISIONS)} (default: all that is built)")
    parser.add_argument("--stage", help="only this stage, or the language model's name")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the inputs (default: from the clock)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--say", metavar="TEXT", help="also speak this in every format and compare the sound")
    parser.add_argument("--json", type=Path, help="also write the comparisons here")
    parser.add_argument("--html", type=Path, help="also write a page with plots here (needs matplotlib)")
    args = parser.parse_args(arguments)
    try:
        rows, skipped = compare_all(args)
        report(table(rows, skipped) + f"\nseed {args.seed}; the batch is {LARGEST_BATCH} at the largest sizes")
        if args.json:
            write_json(args.json, rows, skipped)
        if args.html:
            write_html(args.html, rows, skipped)
        failed = sorted({f"{row.name} ({row.format})" for row in rows if not row.passed})
        if failed:
            raise ArtifactError(f"parity failed for {', '.join(failed)}")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare_all(args: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Return rows of every artifact that is built and asked for, and what was left out and why."""
    from tritone.parity.engines import engine_call, reference_call

    family = open_family(args.model_dir)
    wanted = [a for a in built(args.out, family, args) if not args.stage or a.name == args.stage]
    reference = reference_call(family, torch_call(family.stages), args.out, args.threads)
    rows: list[Row] = []
    skipped: list[str] = []
    for artifact in wanted:
        if artifact.format == "llm":
            rows += compare_language_model(artifact, family, args)
            continue
        stage = family.stage(artifact.name)
        if stage.build is None and artifact.key == targets.stage_key(stage.name):
            skipped.append(f"{artifact.key}: the checkpoint's own file is the reference itself")
        elif artifact.format == "tensorrt" and not runs_here(args.out, artifact):
            skipped.append(f"{artifact.key}: needs the kind of GPU it was compiled for")
        else:
            engine = engine_call(artifact.format, artifact.precision, [stage], args.out, args.threads)
            rows += compare_artifact(artifact, stage, family, reference, engine, args.out, args.seed, args.quick)
    if args.say:
        from tritone.parity.end_to_end import compare_speech

        rows += compare_speech(family, reference, wanted, args.out, args.say, args.seed, args.threads)
    return rows, skipped


def built(out: Path, family: Family, args: argparse.Namespace) -> list[Artifact]:
    """Return the artifacts of the family that exist in the folder.

    ConfigError when the choice is unknown, or leaves none.
    """
    chosen = Selection(
        tuple(args.formats.split(",")) if args.formats else targets.FORMATS,
        tuple(args.precision.split(",")) if args.precision else targets.PRECISIONS,
    )
    listed = {a.key: a for name in targets.LLM_FOLDERS for a in targets.artifacts(family, replace(chosen, llm=name))}
    if args.stage:
        targets.only(list(listed.values()), args.stage)
    found = [a for a in listed.values() if (out / a.key).exists() and asked_for(a, args, chosen)]
    if not found:
        raise ArtifactError(f"{out} holds nothing of that; build it with python export/build_engines.py")
    return found


def asked_for(artifact: Artifact, args: argparse.Namespace, chosen: Selection) -> bool:
    """Return whether the artifact itself was named, not only as what another is made from."""
    return artifact.format in chosen.formats and (artifact.format == "llm" or artifact.precision in chosen.precisions)


def compare_language_model(artifact: Artifact, family: Family, args: argparse.Namespace) -> list[Row]:
    """Return the language model's folder beside the torch module."""
    from tritone.lm.genai import genai_llm

    llm = family.language_model
    assert llm is not None
    if artifact.precision == targets.HUGGINGFACE:
        from tritone.export import to_huggingface

        return [to_huggingface.compare(llm, to_huggingface.described(llm), args.out / artifact.key, args.seed)]
    with genai_llm(args.out, artifact.precision, args.threads)() as session:
        return [compare_llm(llm, session, artifact.precision, args.seed)]


def runs_here(out: Path, artifact: Artifact) -> bool:
    """Return whether an engine's GPU is in this machine."""
    from tritone.export import to_tensorrt

    entry = read_manifest(out).get(artifact.key)
    return entry is not None and to_tensorrt.can_run(entry.identity.platform)


if __name__ == "__main__":
    sys.exit(main())
