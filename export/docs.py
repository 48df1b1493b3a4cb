"""Write the README's table of what can be exported and where it is served: `python export/docs.py [--check]`.

The table stands between two marker lines and is made from the code's own lists, so it cannot promise what is not there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tritone.build import artifacts, targets
from tritone.build.artifacts import Artifact
from tritone.build.targets import HUGGINGFACE, Selection
from tritone.catalog import KINDS, published_family
from tritone.stage import Family

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- table: python export/docs.py -->", "<!-- end of table -->"
NAMES = {
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "tensorrt": "TensorRT, TensorRT-RTX engine",
    "llm": "onnxruntime-genai",
    HUGGINGFACE: "transformers folder for TensorRT-LLM, vLLM",
}
HEAD = ("model", "format", "precisions", "covers", *(f"served on {target}" for target in targets.TARGETS))


def table() -> str:
    """Return the Markdown table of models, formats and targets."""
    rows = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for kind in KINDS:
        family = published_family(kind)
        for name, cells in format_rows(family).items():
            rows.append("| " + " | ".join((f"{family.name} (`{kind.name}`)", NAMES[name], *cells)) + " |")
    return "\n".join(rows)


def format_rows(family: Family) -> dict[str, tuple[str, ...]]:
    """By format: its precisions, what of the family it covers, and what a server of each target loads of it."""
    everything = Selection(targets.FORMATS, targets.PRECISIONS)
    possible = [a for llm in targets.LLM_FOLDERS for a in artifacts.artifacts(family, replace(everything, llm=llm))]
    served = {target: loaded(family, target) for target in targets.TARGETS}
    rows = {}
    for name in NAMES:
        made = [artifact for artifact in possible if label(artifact) == name]
        if not made:  # a language model made of stages has no format of its own
            continue
        precisions = list(dict.fromkeys(a.precision for a in made if a.precision != HUGGINGFACE)) or ["as stored"]
        covered = {a.name for a in made}
        stages = [stage.name for stage in family.stages]
        covers = "language model" if not covered & set(stages) else f"{len(covered)} of {len(stages)} stages"
        loads = [
            ", ".join(p for p in (*precisions, HUGGINGFACE) if (name, p) in served[target]).replace(HUGGINGFACE, "yes")
            for target in targets.TARGETS
        ]
        rows[name] = (", ".join(precisions), covers, *(text or "-" for text in loads))
    return rows


def loaded(family: Family, target: str) -> set[tuple[str, str]]:
    """Row and precision of everything a server of the target opens: what is only made into something else is not."""
    wanted = artifacts.artifacts(family, targets.for_target(target))
    sources = {artifact.source for artifact in wanted}
    return {(label(artifact), artifact.precision) for artifact in wanted if artifact.key not in sources}


def label(artifact: Artifact) -> str:
    """Return the row an artifact belongs to."""
    return HUGGINGFACE if artifact.precision == HUGGINGFACE else artifact.format


def main() -> int:
    """Writes the table; with --check, exits 1 when the README differs from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    fresh = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if args.check and fresh != text:
        print(f"{readme.name}: the table is out of date; run: python export/docs.py", file=sys.stderr)
        return 1
    if not args.check:
        readme.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
