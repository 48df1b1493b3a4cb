"""Compare artifacts with the torch modules in fp32: stages at three sizes, language models token by token.

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
LLM_TOLERANCE = 1e-3
"""The largest error of a language model with fp32 weights; `quantised.py` has the limits of the others."""
STEPS = 64


@dataclass(frozen=True)
class Row:
    """One comparison: the artifact, the sizes, the error and its tolerance, and the problem if there is one.

    Args:
        point: "smallest", "usual", "largest", or the kind of comparison.
        seconds: taken by the artifact's engine.
        outputs: error of each output.
        sound: log-mel difference and signal-to-noise ratio of outputs that are audio.
    """

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
        """True if there is no problem and the error is within tolerance."""
        return not self.problem and (self.tolerance is None or self.error <= self.tolerance)


def points(stage: Stage, quick: bool = False) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield name and axis sizes of the smallest, usual and (unless `quick`) largest comparison."""
    for name, which in (("smallest", "lo"), ("usual", "opt"), ("largest", "hi")):
        sizes = stage.sizes(which)
        batch = stage.inputs[0].shape[0]
        if isinstance(batch, Axis):
            rows = {"lo": batch.lo, "opt": max(batch.opt, USUAL_BATCH), "hi": LARGEST_BATCH}[which]
            sizes[batch.name] = min(rows, batch.hi)
        if not (quick and which == "hi"):
            yield name, sizes


def relative_error(reference: np.ndarray, result: np.ndarray, scale: float = 0.0) -> float:
    """Return the largest difference over the reference's peak; infinite if shapes differ or a value is not finite.

    Args:
        scale: the peak is at least this.
    """
    if reference.shape != result.shape or not (np.isfinite(reference).all() and np.isfinite(result).all()):
        return float("inf")
    if not reference.size:
        return 0.0
    difference = float(np.abs(reference.astype(np.float64) - result).max())
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
    """Yield the comparison of two engines at each size, with fresh random inputs and ragged lengths.

    Args:
        form: format and precision of `engine`, for the rows.
        tolerance: the largest error (default: the stage's own for fp32).
        rate: sample rate of the stage's first output if that is audio, which is then also compared as sound.
    """
    limit = stage.tolerance if tolerance is None else tolerance
    regret = stage.regret() if stage.regret else None
    for index, (point, sizes) in enumerate(points(stage, quick)):
        inputs = stage.example(sizes, seed + index)
        expected = reference(stage.name, **inputs)
        began = time.perf_counter()
        try:
            outputs = engine(stage.name, **inputs)
        except ArtifactError:
            raise
        except Exception as error:  # each engine raises its own types
            message = str(error).splitlines()[0]
            yield Row(stage.name, form, point, sizes, float("inf"), limit, 0.0, f"failed: {message}", seed=seed + index)
            continue
        seconds = time.perf_counter() - began
        problem = wrong_shape(stage, sizes, expected, outputs)
        sound = as_sound(stage, expected, outputs, rate) if rate and not problem else {}
        errors = {} if problem else errors_of(stage, expected, outputs)
        if regret is not None and not problem:
            errors |= {name: float(worse.max(initial=0.0)) for name, worse in regret(inputs, outputs).items()}
        worst = max(errors.values(), default=float("inf"))
        if not problem and not worst <= limit:
            bad = max(errors, key=lambda name: errors[name])
            problem = f"{bad} differs" if np.isfinite(worst) else f"{bad} is not finite"
        yield Row(stage.name, form, point, sizes, worst, limit, seconds, problem, errors, seed + index, sound)


def errors_of(stage: Stage, expected: Arrays, outputs: Arrays) -> dict[str, float]:
    """Return the relative error of each output."""
    return {t.name: relative_error(expected[t.name], outputs[t.name], t.scale) for t in stage.outputs}


def as_sound(stage: Stage, expected: Arrays, outputs: Arrays, rate: int) -> dict[str, float]:
    """Return log-mel difference and signal-to-noise ratio in dB of the first output's first row."""
    name = stage.outputs[0].name
    pair = expected[name][0], outputs[name][0]
    return {"log_mel": log_mel_difference(*pair, rate), "snr_db": signal_to_noise(*pair)}


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
    """Return the comparisons of a stage's file with the reference; a failed mixed fp16 graph names its first bad node.

    Args:
        out: the build folder.
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
    """Return the failed row of a mixed fp16 graph with the first node out of tolerance added to its problem."""
    from tritone.parity.fp16_probe import first_bad_node

    files = (stage_path(out, stage.name), stage_path(out, stage.name, "fp16"))
    bad = first_bad_node(stage, *files, stage.example(dict(row.sizes), row.seed), row.tolerance or stage.fp16_tolerance)
    if bad is None:
        return replace(row, problem=f"{row.problem}; no single node is out of tolerance")
    what = "is not finite" if not bad.finite else f"differs by {bad.error:.1e}"
    origin = "" if bad.introduced_by == bad.name else f", most of it from {bad.introduced_by}"
    return replace(row, problem=f"{row.problem}; first at node {bad.name} ({bad.op}), which {what}{origin}")


def wrong_shape(stage: Stage, sizes: Mapping[str, int], expected: Arrays, outputs: Arrays) -> str:
    """Return the first output whose shape is not the declared one and the module's, in words; empty if none.

    Axes that only outputs have (the length of kept state) are compared with the module alone.
    """
    for tensor in stage.outputs:
        shape, module = outputs[tensor.name].shape, expected[tensor.name].shape
        declared = []
        for dim, actual in zip(tensor.shape, module, strict=True):
            try:
                declared.append(size(dim, sizes))
            except KeyError:
                declared.append(actual)
        if not tuple(declared) == module == shape:
            return f"{tensor.name} has shape {list(shape)}, the module {list(module)}, declared is {declared}"
    return ""


def compare_llm(
    llm: CausalLm,
    session: Any,
    seed: int,
    steps: int = STEPS,
    form: str = "genai fp32",
    prompt_ids: np.ndarray | None = None,
) -> Row:
    """Return the comparison of a session's logits with one torch pass: a random prompt, then forced random tokens.

    Args:
        form: engine and precision, for the row.
        prompt_ids: the ids that prompts are drawn from (default: all rows of the embedding).
    """
    import torch

    if llm.merged is None:
        raise ArtifactError(f"language model {llm.name} has no merged vocabulary to compare with")
    model, bias = llm.merged()
    steps = min(steps, int(llm.limits["positions"]) // 2)
    rng = np.random.default_rng(seed)
    rows = model.get_input_embeddings().num_embeddings
    prompt = rng.choice(np.arange(rows) if prompt_ids is None else prompt_ids, steps)
    forced = rng.integers(0, llm.vocabulary, steps)
    with torch.inference_mode():
        ids = torch.from_numpy(np.concatenate((prompt, forced)))
        logits = model(ids[None]).logits[0, steps - 1 :, : llm.vocabulary]
        expected = (logits if bias is None else logits + bias).numpy()
    began = time.perf_counter()
    result = np.stack([session.prefill(prompt.tolist()), *(session.step(int(token)) for token in forced)])
    seconds = (time.perf_counter() - began) / (steps + 1)
    error = relative_error(expected, result)
    problem = "" if error <= LLM_TOLERANCE else "logits differ"
    if not np.isfinite(error):
        problem = "logits are not finite"
    sizes = {"prompt": steps, "steps": steps}
    return Row(llm.name, form, "teacher-forced", sizes, error, LLM_TOLERANCE, seconds, problem)
