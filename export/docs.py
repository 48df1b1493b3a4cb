"""Write the generated tables of the documentation: `python export/docs.py [--check]`.

README.md        models, formats and targets, and measured figures, each between two marker lines
docs/tables.md   requests, responses, stages and axes of every family, the whole file
docs/coverage.md what was built and compared, the whole file

They are made from the code's own descriptions and from committed results: those of `python export/coverage.py` and
those of the benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import figures
from export.recorded import pages, record_of, summary
from tritone.build import artifacts, targets
from tritone.build.artifacts import Artifact
from tritone.build.targets import HUGGINGFACE, Selection
from tritone.catalog import KINDS, published_family
from tritone.engines.inputs import dim_text, tensor_text
from tritone.stage import Family, Stage, Tensor

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- table: python export/docs.py -->", "<!-- end of table -->"
FIGURES_BEGIN, FIGURES_END = "<!-- figures: python export/docs.py -->", "<!-- end of figures -->"
NAMES = {
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "tensorrt": "TensorRT, TensorRT-RTX engine",
    "llm": "onnxruntime-genai",
    HUGGINGFACE: "transformers folder for TensorRT-LLM, vLLM",
}
HEAD = (
    "model", "format", "precisions", "covers", "built and compared", "worst error, of its limit",
    *(f"served on {target}" for target in targets.TARGETS),
)  # fmt: skip


def coverage() -> str:
    """Return the Markdown table of models, formats and targets."""
    rows = []
    for kind in KINDS:
        family = published_family(kind)
        rows += [(f"{family.name} (`{kind.name}`)", NAMES[name], *cells) for name, cells in format_rows(family).items()]
    return markdown(HEAD, rows)


def format_rows(family: Family) -> dict[str, tuple[str, ...]]:
    """Return by format its precisions, its share of the family, what was recorded, what servers load.

    A format covers the stages it can be built of; what was built and compared is in the records.
    """
    everything = Selection(targets.FORMATS, targets.PRECISIONS)
    possible = [a for llm in targets.LLM_FOLDERS for a in artifacts.artifacts(family, replace(everything, llm=llm))]
    served = {target: loaded(family, target) for target in targets.TARGETS}
    recorded = record_of(family.name)["artifacts"]
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
        keys = dict.fromkeys(artifact.key for artifact in made)
        known = [recorded[key] for key in keys if key in recorded]
        rows[name] = (", ".join(precisions), covers, *summary(known, covered), *(text or "-" for text in loads))
    return rows


def loaded(family: Family, target: str) -> set[tuple[str, str]]:
    """Return row and precision of everything a server of the target opens, without the sources of its artifacts."""
    needed = artifacts.artifacts(family, targets.for_target(target))
    sources = {artifact.source for artifact in needed}
    return {(label(artifact), artifact.precision) for artifact in needed if artifact.key not in sources}


def label(artifact: Artifact) -> str:
    """Return the row an artifact belongs to."""
    return HUGGINGFACE if artifact.precision == HUGGINGFACE else artifact.format


def tables() -> str:
    """Return the page of requests, responses, stages and axes."""
    parts = [
        "<!-- Written by python export/docs.py; do not edit. -->",
        "# Requests, stages and axes",
        "Sizes are those of the published checkpoints; a checkpoint with other sizes has its own. Every engine covers\n"
        "an axis from its smallest to its largest size. Requests and responses carry a batch of one.",
    ]
    for kind in KINDS:
        family = published_family(kind)
        parts += [f"## {family.name} (`{kind.name}`)", "### Request", request_table(family.request)]
        parts += ["### Response", markdown(("output", "type"), map(tensor_row, family.response))]
        parts += ["### Stages", stage_table(family.stages), "### Axes", axis_table(family.stages)]
    return "\n\n".join(parts) + "\n"


def request_table(tensors: tuple[Tensor, ...]) -> str:
    """Return the Markdown table of a request's inputs."""
    rows = ((*tensor_row(tensor), "optional" if tensor.optional else "required") for tensor in tensors)
    return markdown(("input", "type", ""), rows)


def tensor_row(tensor: Tensor) -> tuple[str, str]:
    """Return the name and the type of a tensor as two cells."""
    return f"`{tensor.name}`", tensor_text(tensor)


def stage_table(stages: tuple[Stage, ...]) -> str:
    """Return the Markdown table of stages with all inputs and outputs."""
    rows = ((f"`{stage.name}`", joined(stage.inputs), joined(stage.outputs)) for stage in stages)
    return markdown(("stage", "inputs", "outputs"), rows)


def joined(tensors: tuple[Tensor, ...]) -> str:
    """Return several tensors as one cell."""
    return ", ".join(f"`{tensor.name}` {tensor_text(tensor)}" for tensor in tensors)


def axis_table(stages: tuple[Stage, ...]) -> str:
    """Return the Markdown table of all axes with their ranges."""
    axes = {axis.name: axis for stage in stages for axis in stage.axes}
    rows = ((f"`{dim_text(axis)}`", str(axis.lo), str(axis.opt), str(axis.hi)) for axis in axes.values())
    return markdown(("axis", "smallest", "usual", "largest"), rows)


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def between(page: str, begin: str, end: str, table: str) -> str:
    """Return the page with the table in place of what stands between two marker lines."""
    head, rest = page.split(begin)
    return f"{head}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Write the tables; with --check, return 1 when a file differs from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare without writing")
    args = parser.parse_args()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = between(readme, BEGIN, END, coverage())
    files = {
        ROOT / "README.md": between(readme, FIGURES_BEGIN, FIGURES_END, figures.table()),
        ROOT / "docs" / "tables.md": tables(),
        ROOT / "docs" / "coverage.md": pages(published_family(kind).name for kind in KINDS),
    }
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if args.check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run: python export/docs.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
