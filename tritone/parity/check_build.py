"""Compare everything a build folder holds with the fp32 torch modules of the checkpoint it was made from.

    tritone parity checkpoints/nano
    tritone parity checkpoints/nano --formats onnx --precision fp16 --say "Good morning." --html parity.html

The exit status is 1 when an error is above its tolerance, a value is not finite, or a shape is wrong. For a mixed fp16
graph that fails, the first node that leaves tolerance is named.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tritone.build import artifacts, layout, targets
from tritone.build.artifacts import Artifact
from tritone.build.layout import stage_key
from tritone.build.manifest import read_manifest
from tritone.build.targets import Selection
from tritone.catalog import open_family
from tritone.cli.parser import Parser
from tritone.engines.torch import torch_call
from tritone.errors import ArtifactError, TritoneError
from tritone.parity.compare import LARGEST_BATCH, Row, compare_artifact
from tritone.parity.quantised import compare_genai
from tritone.stage import Call, Family


def command_line() -> Parser:
    """Return the command's options."""
    parser = Parser(prog="tritone parity", description=__doc__)
    parser.add_checkpoint()
    parser.add_argument("--out", type=Path, help="build folder (default: build/<name of the checkpoint>)")
    parser.add_argument("--formats", help=f"comma-separated, of {','.join(targets.FORMATS)} (default: all built)")
    parser.add_argument("--precision", help=f"comma-separated, of {','.join(targets.PRECISIONS)} (default: all built)")
    parser.add_argument("--stage", help="only this stage, or the language model's name (default: all)")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="seed of the inputs (default: the clock)")
    parser.add_argument("--threads", type=int, default=1, help="threads per network")
    parser.add_argument("--say", metavar="TEXT", help="also speak this text in every format and compare the sound")
    parser.add_argument("--json", type=Path, help="also write the comparisons to this file")
    parser.add_argument("--html", type=Path, help="also write a page with plots to this file (needs matplotlib)")
    return parser


def main(arguments: Sequence[str] | None = None, report: Callable[[str], None] = print) -> int:
    """Compare everything that is built and selected; return the exit status."""
    from tritone.parity.report import table, write_html, write_json

    args = command_line().parse_args(arguments)
    args.out = args.out or layout.default_folder(args.model_dir)
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
    """Return the rows of every artifact that is built and selected, and each one left out with the reason."""
    from tritone.parity.engines import reference_call

    family = open_family(args.model_dir)
    selected = [a for a in built(args.out, family, args) if not args.stage or a.name == args.stage]
    reference = reference_call(family, torch_call(family.stages), args.out, args.threads)
    rows: list[Row] = []
    skipped: list[str] = []
    for number, artifact in enumerate(selected, 1):
        print(f"[{number}/{len(selected)}] {artifact.key}", file=sys.stderr, flush=True)
        reason = why_not(artifact, family, args.out)
        if reason:
            skipped.append(f"{artifact.key}: {reason}")
        elif artifact.format == "llm":
            rows += compare_language_model(artifact, family, args)
        else:
            rows += compare_stage_file(artifact, family, reference, args)
    if args.say:
        print("speaking in every format", file=sys.stderr, flush=True)
        from tritone.parity.end_to_end import compare_speech

        rows += compare_speech(family, reference, selected, args.out, args.say, args.seed, args.threads)
    return rows, skipped


def built(out: Path, family: Family, args: argparse.Namespace) -> list[Artifact]:
    """Return the selected artifacts of the family that exist in the folder.

    Raises:
        ConfigError: a format, a precision or the stage is unknown.
        ArtifactError: none of them exists.
    """
    chosen = Selection(
        tuple(args.formats.split(",")) if args.formats else targets.FORMATS,
        tuple(args.precision.split(",")) if args.precision else targets.PRECISIONS,
    )
    listed = {a.key: a for name in targets.LLM_FOLDERS for a in artifacts.artifacts(family, replace(chosen, llm=name))}
    if args.stage:
        artifacts.only(list(listed.values()), args.stage)
    present = [a for a in listed.values() if (out / a.key).exists() and is_selected(a, chosen)]
    if not present:
        raise ArtifactError(f"{out} holds no such artifact; run: {build_command(out, args)}")
    return present


def build_command(out: Path, args: argparse.Namespace) -> str:
    """Return the command that builds what was selected."""
    words = ["tritone", "build", str(args.model_dir), "--out", str(out)]
    for name in ("formats", "precision", "stage"):
        words += [f"--{name}", value] if (value := getattr(args, name)) else []
    return shlex.join(words)


def is_selected(artifact: Artifact, chosen: Selection) -> bool:
    """Return whether the artifact itself was selected, and not only as the source of another one."""
    return artifact.format in chosen.formats and (artifact.format == "llm" or artifact.precision in chosen.precisions)


def why_not(artifact: Artifact, family: Family, out: Path) -> str:
    """Return the reason the artifact cannot be compared here, or an empty string."""
    if artifact.format == "llm":
        return ""
    stage = family.stage(artifact.name)
    if stage.build is None and artifact.key == stage_key(stage.name):
        return "the checkpoint's own file is the reference itself"
    if artifact.format == "tensorrt" and not runs_here(out, artifact):
        return "needs the kind of GPU it was compiled for"
    return ""


def compare_stage_file(artifact: Artifact, family: Family, reference: Call, args: argparse.Namespace) -> list[Row]:
    """Return the comparisons of one file of a stage with the reference."""
    from tritone.parity.engines import engine_call

    stage = family.stage(artifact.name)
    engine = engine_call(artifact.format, artifact.precision, [stage], args.out, args.threads)
    return compare_artifact(artifact, stage, family, reference, engine, args.out, args.seed, args.quick)


def compare_language_model(artifact: Artifact, family: Family, args: argparse.Namespace) -> list[Row]:
    """Return the comparison of one folder of the language model with the torch module."""
    from tritone.lm.genai import genai_sessions

    llm = family.causal_lm
    assert llm is not None
    if artifact.precision == targets.HUGGINGFACE:
        from tritone.export import to_huggingface

        return [to_huggingface.compare(llm, to_huggingface.described(llm), args.out / artifact.key, args.seed)]
    with genai_sessions(args.out, artifact.precision, args.threads)() as session:
        return compare_genai(llm, session, artifact.precision, args.seed)


def runs_here(out: Path, artifact: Artifact) -> bool:
    """Return whether this machine has the GPU a plan was compiled for."""
    from tritone.export import to_tensorrt

    entry = read_manifest(out).get(artifact.key)
    return entry is not None and to_tensorrt.can_run(entry.identity.platform)


if __name__ == "__main__":
    sys.exit(main())
