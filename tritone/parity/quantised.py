"""The gate of a language model with quantised weights: how far its next-token distributions are from the fp32 model's.

Both read the same text and then the speech that the fp32 model samples for it, token by token. Three figures are
limited: the logits' error, the mean divergence of the distributions, and the share of steps whose most probable token
is another one although the fp32 model prefers its own clearly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tritone.errors import ArtifactError
from tritone.lm.description import CausalLm
from tritone.lm.sampling import seeded_draw, softmax
from tritone.parity.compare import Row, compare_llm, relative_error

STEPS = 64
"""Speech tokens of each text that are compared."""
CLEAR = 2.0
"""A preference is clear if the most probable token is at least so many times as probable as the next."""
LIMITS: Mapping[str, Mapping[str, float]] = {
    "int8": {"logits": 0.1, "divergence": 0.005, "other choice": 0.02},
    "int4": {"logits": 0.6, "divergence": 0.2, "other choice": 0.1},
}
"""By precision: largest error of the logits over their peak, mean divergence in nats, share of other choices.

The nano voice has 0.014, 0.0008 and 0 in int8, and 0.14, 0.10 and 0.03 in int4.
"""


def compare_genai(llm: CausalLm, session: Any, precision: str, seed: int) -> list[Row]:
    """Return the comparisons of a language model for onnxruntime-genai in that precision of its weights."""
    if precision in LIMITS:
        return compare_quantised(llm, session, precision, seed)
    return [compare_llm(llm, session, seed)]


def compare_quantised(llm: CausalLm, session: Any, precision: str, seed: int, steps: int = STEPS) -> list[Row]:
    """Return one row for each limited figure, over every example of the language model."""
    if llm.merged is None:
        raise ArtifactError(f"language model {llm.name} has no merged vocabulary to compare with")
    model, bias = llm.merged()
    wanted, found, seconds = [], [], 0.0
    prompts = llm.examples() if llm.examples else [random_prompt(model, seed)]
    for index, prompt in enumerate(prompts):
        forced, logits = reference_speech(llm, model, bias, prompt, steps, seed + index)
        began = time.perf_counter()
        found += [session.prefill(list(prompt)), *(session.step(token) for token in forced)]
        seconds += time.perf_counter() - began
        wanted += logits
    return rows(llm.name, precision, np.stack(wanted), np.stack(found), len(prompts), seed, seconds / len(found))


def rows(
    name: str, precision: str, wanted: np.ndarray, found: np.ndarray, texts: int, seed: int, seconds: float
) -> list[Row]:
    """Return the rows of logits `[steps, vocabulary]` beside those of the fp32 model."""
    figures = {"logits": relative_error(wanted, found), "divergence": float("inf"), "other choice": float("inf")}
    if np.isfinite(figures["logits"]):
        figures |= {"divergence": divergence(wanted, found), "other choice": other_choice(wanted, found)}
    problems = {
        "logits": "logits differ",
        "divergence": "the distribution of the next token differs",
        "other choice": "other tokens are the most probable",
    }
    sizes, limits = {"texts": texts, "steps": len(wanted)}, LIMITS[precision]
    listed = []
    for figure, value in figures.items():
        problem = "" if value <= limits[figure] else problems[figure]
        problem = problem if np.isfinite(value) else "logits are not finite"
        listed.append(
            Row(name, f"genai {precision}", figure, sizes, value, limits[figure], seconds, problem, seed=seed)
        )
    return listed


def divergence(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the mean Kullback-Leibler divergence of the found distributions from the wanted ones, in nats."""
    right, other = log_softmax(wanted), log_softmax(found)
    return float((np.exp(right) * (right - other)).sum(axis=1).mean())


def other_choice(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the share of all steps in which a clear preference of the wanted logits is not the first of the found."""
    second, first = np.partition(wanted, -2, axis=1)[:, -2:].T
    clear = first - second >= np.log(CLEAR)
    return float((clear & (wanted.argmax(axis=1) != found.argmax(axis=1))).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities along the last axis in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def reference_speech(
    llm: CausalLm, model: Any, bias: Any, prompt: Sequence[int], steps: int, seed: int
) -> tuple[list[int], list[np.ndarray]]:
    """Return the speech that the fp32 model samples after a prompt, and its logits before each token and after all."""
    import torch

    draw, stops = seeded_draw(seed), [int(token) for token in llm.limits["stop_ids"]]
    steps = min(steps, int(llm.limits["positions"]) - len(prompt))
    spoken: list[int] = []
    logits: list[np.ndarray] = []
    past, ids = None, list(prompt)
    with torch.inference_mode():
        while True:
            result = model(torch.tensor([ids]), past_key_values=past, use_cache=True)
            past, last = result.past_key_values, result.logits[0, -1, : llm.vocabulary]
            logits.append((last if bias is None else last + bias).float().numpy())
            if len(spoken) == steps:
                return spoken, logits
            scores = logits[-1].copy()
            scores[stops] = -np.inf
            ids = [draw(softmax(scores))]
            spoken += ids


def random_prompt(model: Any, seed: int) -> list[int]:
    """Return random ids for a language model without examples."""
    rows = model.get_input_embeddings().num_embeddings
    return np.random.default_rng(seed).integers(0, rows, 16).tolist()
