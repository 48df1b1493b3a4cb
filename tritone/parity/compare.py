"""Comparisons of what was exported with the torch modules in fp32: every stage at three sizes, token by token for LMs.

An error is the largest absolute difference divided by the largest absolute value of the module's output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tritone.audio.distance import log_mel_difference, signal_to_noise
from tritone.build.artifacts import Artifact
from tritone.build.layout import stage_path
from tritone.errors import ArtifactError
from tritone.lm.description import CausalLm
from tritone.stage import Arrays, Axis, Call, Family, Stage, size

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
    seed: int = 0
    sound: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Within tolerance and nothing wrong."""
        return not self.problem and (self.tolerance is None or self.error <= self.tolerance)


def points(stage: Stage, quick: bool = False) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield name and axis sizes of the smallest, usual and (unless quick) largest comparison."""
    for name, which in (("smallest", "lo"), ("usual", "opt"), ("largest", "hi")):
        sizes = stage.sizes(which)
        batch = stage.inputs[0].shape[0]
        if isinstance(batch, Axis):
            wanted = {"lo": batch.lo, "opt": max(batch.opt, USUAL_BATCH), "hi": LARGEST_BATCH}[which]
            sizes[batch.name] = min(wanted, batch.hi)
        if not (quick and which == "hi"):
            yield name, sizes


def relative_error(reference: np.ndarray, found: np.ndarray, scale: float = 0.0) -> float:
    """Largest difference over the reference's peak; infinite when the shapes differ or a value is not finite.

    Args:
        scale: the peak is at least this.
    """
    if reference.shape != found.shape or not (np.isfinite(reference).all() and np.isfinite(found).all()):
        return float("inf")
    if not reference.size:
        return 0.0
    difference = float(np.abs(reference.astype(np.float64) - found).max())
    peak = max(float(np.abs(reference).max()), scale)
    return difference / peak if peak > 0 else (0.0 if difference == 0 else float("inf"))


def compare_stage(
    stage: Stage,
    reference: Call,
    engine: Call,
    form: str,
    seed: int,
    quick: bool = False,
    tolerance: float | None = None,
    rate: int = 0,
) -> Iterator[Row]:
    """Yield the stage on both engines with fresh random inputs and ragged lengths at each size.

    Args:
        tolerance: in place of the stage's own for fp32.
        rate: sample rate of the stage's first output when that is sound, which is then compared as sound too.
    """
    limit = stage.tolerance if tolerance is None else tolerance
    regret = stage.regret() if stage.regret else None
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
            yield Row(stage.name, form, point, sizes, float("inf"), limit, 0.0, f"failed: {message}", seed=seed + index)
            continue
        seconds = time.perf_counter() - began
        problem = wrong_shape(stage, sizes, wanted, found)
        sound = as_sound(stage, wanted, found, rate) if rate and not problem else {}
        errors = {} if problem else errors_of(stage, wanted, found)
        if regret is not None and not problem:
            errors |= {name: float(worse.max(initial=0.0)) for name, worse in regret(inputs, found).items()}
        worst = max(errors.values(), default=float("inf"))
        if not problem and not worst <= limit:
            bad = max(errors, key=lambda name: errors[name])
            problem = f"{bad} differs" if np.isfinite(worst) else f"{bad} is not finite"
        yield Row(stage.name, form, point, sizes, worst, limit, seconds, problem, errors, seed + index, sound)


def errors_of(stage: Stage, wanted: Arrays, found: Arrays) -> dict[str, float]:
    """Return the relative error of each output."""
    return {t.name: relative_error(wanted[t.name], found[t.name], t.scale) for t in stage.outputs}


def as_sound(stage: Stage, wanted: Arrays, found: Arrays, rate: int) -> dict[str, float]:
    """Return log-mel difference and signal-to-noise ratio in dB of the first output's first row."""
    name = stage.outputs[0].name
    one, other = wanted[name][0], found[name][0]
    return {"log_mel": log_mel_difference(one, other, rate), "snr_db": signal_to_noise(one, other)}


def compare_artifact(
    artifact: Artifact,
    stage: Stage,
    family: Family,
    reference: Call,
    engine: Call,
    out: Path,
    seed: int,
    quick: bool = False,
) -> list[Row]:
    """Return one file of a build folder beside the reference.

    A mixed fp16 graph that fails has its first bad node named.
    """
    form = f"{artifact.format} {artifact.precision}"
    tolerance = stage.fp16_tolerance if artifact.precision == "fp16" else stage.tolerance
    sounds = {tensor.name for tensor in family.response}
    rate = int(family.settings.get("sample_rate", 0)) if stage.outputs[0].name in sounds else 0
    rows = list(compare_stage(stage, reference, engine, form, seed, quick, tolerance, rate))
    if form != "onnx fp16":
        return rows
    return [row if row.passed else diagnosed(row, stage, out) for row in rows]


def diagnosed(row: Row, stage: Stage, out: Path) -> Row:
    """Return the failed row of a mixed fp16 graph with the first node that leaves tolerance in its problem."""
    from tritone.parity.fp16_probe import first_bad_node

    files = (stage_path(out, stage.name), stage_path(out, stage.name, "fp16"))
    bad = first_bad_node(stage, *files, stage.example(dict(row.sizes), row.seed), row.tolerance or stage.fp16_tolerance)
    if bad is None:
        return replace(row, problem=f"{row.problem}; no single node is out of tolerance")
    what = "is not finite" if not bad.finite else f"is off by {bad.error:.1e}"
    origin = "" if bad.introduced_by == bad.name else f", most of it from {bad.introduced_by}"
    return replace(row, problem=f"{row.problem}; first at node {bad.name} ({bad.op}), which {what}{origin}")


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


def compare_llm(llm: CausalLm, session: Any, precision: str, seed: int, steps: int = STEPS) -> Row:
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
