"""Does what was exported compute what was trained? Every stage at three sizes, the language model token by token.

    python export/parity.py --model-dir checkpoints/nano --out build/nano [--stage S] [--quick] [--json FILE]

An error is the largest absolute difference from the fp32 torch module, divided by the largest absolute value of the
module's output. The exit status is 1 when any is above its tolerance, any value is not finite, or any shape is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from tritone.artifacts import llm_path
from tritone.call import onnx_call, torch_call
from tritone.catalog import open_family
from tritone.errors import ArtifactError, TritoneError
from tritone.stage import Arrays, Axis, Call, LanguageModel, Stage, size

LARGEST_BATCH = 1
"""At the largest lengths the batch (the first input's first axis) is capped: long attention takes gigabytes a row."""
USUAL_BATCH = 3
"""At the usual lengths the batch is at least this, so that ragged lengths and padding are exercised."""
LLM_TOLERANCE = {"fp32": 1e-3}
"""Quantised language models are reported, not gated: what counts there is the speech they make."""
STEPS = 64


@dataclass(frozen=True)
class Row:
    """One comparison: what was compared, at which sizes, how far apart, and what is wrong with it if anything."""

    name: str
    format: str
    point: str
    sizes: Mapping[str, int]
    error: float
    tolerance: float | None
    seconds: float
    problem: str = ""
    outputs: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Within tolerance and nothing wrong."""
        return not self.problem and (self.tolerance is None or self.error <= self.tolerance)


def points(stage: Stage, quick: bool = False) -> Iterator[tuple[str, dict[str, int]]]:
    """Name and axis sizes of the smallest, usual and (unless quick) largest comparison."""
    for name, which in (("smallest", "lo"), ("usual", "opt"), ("largest", "hi")):
        sizes = stage.sizes(which)
        batch = stage.inputs[0].shape[0]
        if isinstance(batch, Axis):
            wanted = {"lo": batch.lo, "opt": max(batch.opt, USUAL_BATCH), "hi": LARGEST_BATCH}[which]
            sizes[batch.name] = min(wanted, batch.hi)
        if not (quick and which == "hi"):
            yield name, sizes


def relative_error(reference: np.ndarray, found: np.ndarray) -> float:
    """Largest difference over the reference's peak; infinite when either holds a value that is not finite."""
    if not (np.isfinite(reference).all() and np.isfinite(found).all()):
        return float("inf")
    if not reference.size:
        return 0.0
    difference = float(np.abs(reference.astype(np.float64) - found).max())
    peak = float(np.abs(reference).max())
    return difference / peak if peak > 0 else (0.0 if difference == 0 else float("inf"))


def compare_stage(
    stage: Stage, reference: Call, engine: Call, form: str, seed: int, quick: bool = False
) -> Iterator[Row]:
    """The stage on both engines with fresh random inputs and ragged lengths at each size."""
    for index, (point, sizes) in enumerate(points(stage, quick)):
        inputs = stage.example(sizes, seed + index)
        wanted = reference(stage.name, **inputs)
        began = time.perf_counter()
        try:
            found = engine(stage.name, **inputs)
        except ArtifactError:
            raise
        except Exception as error:  # each engine raises its own types
            message = str(error).splitlines()[0]
            yield Row(stage.name, form, point, sizes, float("inf"), stage.tolerance, 0.0, f"failed: {message}")
            continue
        seconds = time.perf_counter() - began
        problem = wrong_shape(stage, sizes, wanted, found)
        errors = {} if problem else {name: relative_error(wanted[name], found[name]) for name in wanted}
        worst = max(errors.values(), default=float("inf"))
        if not problem and not worst <= stage.tolerance:
            problem = f"{max(errors, key=lambda name: errors[name])} differs"
        yield Row(stage.name, form, point, sizes, worst, stage.tolerance, seconds, problem, errors)


def wrong_shape(stage: Stage, sizes: Mapping[str, int], reference: Arrays, found: Arrays) -> str:
    """Which output has another shape than declared or than the module gives; empty when all agree.

    Axes that only outputs have (how much state is kept) are compared with the module alone.
    """
    for tensor in stage.outputs:
        shape, module = found[tensor.name].shape, reference[tensor.name].shape
        declared = []
        for dim, actual in zip(tensor.shape, module, strict=True):
            try:
                declared.append(size(dim, sizes))
            except KeyError:
                declared.append(actual)
        if not tuple(declared) == module == shape:
            return f"{tensor.name} has shape {list(shape)}, the module {list(module)}, declared is {declared}"
    return ""


def compare_llm(llm: LanguageModel, session: Any, precision: str, seed: int, steps: int = STEPS) -> Row:
    """Teacher-forced logits: a random prompt, then random tokens one by one, against one torch pass."""
    import torch

    if llm.merged is None:
        raise ArtifactError(f"language model {llm.name} has no merged vocabulary to compare with")
    model, bias = llm.merged()
    steps = min(steps, int(llm.limits["positions"]) // 2)
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, model.get_input_embeddings().num_embeddings, steps)
    forced = rng.integers(0, llm.vocabulary, steps)
    with torch.inference_mode():
        ids = torch.from_numpy(np.concatenate((prompt, forced)))
        logits = model(ids[None]).logits[0, len(prompt) - 1 :, : llm.vocabulary]
        wanted = (logits if bias is None else logits + bias).numpy()
    began = time.perf_counter()
    found = np.stack([session.prefill(prompt.tolist()), *(session.step(int(token)) for token in forced)])
    seconds = (time.perf_counter() - began) / (steps + 1)
    tolerance = LLM_TOLERANCE.get(precision)
    sizes = {"prompt": steps, "steps": steps}
    error = relative_error(wanted, found)
    problem = "" if tolerance is None or error <= tolerance else "logits differ"
    if not np.isfinite(error):
        problem = "logits are not finite"
    return Row(llm.name, f"genai {precision}", "teacher-forced", sizes, error, tolerance, seconds, problem)


def table(rows: Iterable[Row]) -> str:
    """The comparisons as aligned text."""
    lines = [f"{'what':22} {'format':12} {'point':15} {'error':>9} {'tolerance':>9} {'seconds':>8}  sizes"]
    for row in rows:
        tolerance = "-" if row.tolerance is None else f"{row.tolerance:9.1e}"
        sizes = " ".join(f"{name}={value}" for name, value in row.sizes.items())
        verdict = "" if row.passed else f"  FAILED {row.problem}"
        lines.append(
            f"{row.name:22} {row.format:12} {row.point:15} {row.error:9.1e} {tolerance:>9} {row.seconds:8.3f}"
            f"  {sizes}{verdict}"
        )
    return "\n".join(lines)


def write_json(path: Path, rows: Iterable[Row]) -> None:
    """The comparisons as a JSON list; an infinite error is written as null."""
    listed = [{**asdict(row), "passed": row.passed} for row in rows]
    for row in listed:
        row["error"] = row["error"] if np.isfinite(row["error"]) else None
        row["outputs"] = {k: v if np.isfinite(v) else None for k, v in row["outputs"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listed, indent=1) + "\n")


def main(arguments: list[str] | None = None, report: Callable[[str], None] = print) -> int:
    """Compare everything that is built; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, required=True, help="checkpoint directory")
    parser.add_argument("--out", type=Path, required=True, help="build folder")
    parser.add_argument("--stage", help="only this stage, or the language model's name")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the inputs (default: from the clock)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the comparisons here")
    args = parser.parse_args(arguments)
    try:
        rows = list(compare_all(args))
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(f"{table(rows)}\nseed {args.seed}; the batch is capped at {LARGEST_BATCH} for the largest sizes")
    if args.json:
        write_json(args.json, rows)
    failed = sorted({row.name for row in rows if not row.passed})
    if failed:
        print(f"error: parity failed for {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def compare_all(args: argparse.Namespace) -> Iterator[Row]:
    """Every stage that has a torch module, then the language model in every precision that is built."""
    from tritone.lm.genai import genai_llm

    family = open_family(args.model_dir)
    llm = family.language_model
    names = [stage.name for stage in family.stages] + ([llm.name] if llm else [])
    if args.stage and args.stage not in names:
        raise ArtifactError(f"{family.name} has no stage {args.stage!r}; there are {', '.join(names)}")
    stages = [s for s in family.stages if s.build is not None and args.stage in (None, s.name)]
    reference, engine = torch_call(stages), onnx_call(args.out, stages, threads=args.threads)
    for stage in stages:
        yield from compare_stage(stage, reference, engine, "onnx fp32", args.seed, args.quick)
    if llm is not None and args.stage in (None, llm.name):
        for folder in sorted(llm_path(args.out, "any").parent.glob("*/genai_config.json")):
            with genai_llm(args.out, folder.parent.name, args.threads)() as session:
                yield compare_llm(llm, session, folder.parent.name, args.seed)


if __name__ == "__main__":
    sys.exit(main())
