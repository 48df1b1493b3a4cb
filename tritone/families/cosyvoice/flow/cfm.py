"""The flow decoder: Euler steps with classifier-free guidance around an estimator stage, in NumPy.

Source: conditional flow matching (Lipman et al. 2023) with guidance (Ho & Salimans 2022) as CosyVoice 2 applies them.
All arithmetic is float32 in the published order, so results can be compared number for number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tritone.stage import Arrays, Axis, Call, Dim, Scaled, Stage, size

FULL_ATTENTION = 1 << 30
"""A chunk larger than any sequence, in which every position attends to every other."""

Velocity = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


def t_span(steps: int) -> np.ndarray:
    """Return the flow times, float32 `[steps + 1]`, from 0 to 1 on the cosine schedule, denser near the noise."""
    return np.float32(1) - np.cos(np.linspace(0, 1, steps + 1, dtype=np.float32) * np.float32(0.5 * np.pi))


def guide(rows: np.ndarray) -> np.ndarray:
    """Return the conditioning of the guided batch, `[2 x batch, ...]`: the given rows, then as many rows of zeros."""
    return np.concatenate([rows, np.zeros_like(rows)])


def twice(rows: np.ndarray) -> np.ndarray:
    """Return rows that both halves of the guided batch share, `[2 x batch, ...]`."""
    return np.concatenate([rows, rows])


def euler(velocity: Velocity, noise: np.ndarray, steps: int, cfg_rate: float) -> np.ndarray:
    """Return mel `[batch, 80, frames]` at the end of the flow; `velocity(step, x, t)` is of the guided batch."""
    span, x = t_span(steps), noise.astype(np.float32)
    t = span[0]
    for step in range(steps):
        dt = span[step + 1] - t
        both = velocity(step, twice(x), np.full(2 * len(x), t, np.float32))
        given, free = both[: len(x)], both[len(x) :]
        x = x + dt * (np.float32(1 + cfg_rate) * given - np.float32(cfg_rate) * free)
        t = t + dt
    return x


def solve(
    call: Call,
    mu: np.ndarray,
    spks: np.ndarray,
    cond: np.ndarray,
    mask: np.ndarray,
    noise: np.ndarray,
    chunk_size: int | None = FULL_ATTENTION,
    steps: int = 10,
    cfg_rate: float = 0.7,
) -> np.ndarray:
    """Return mel `[batch, 80, frames]` of whole utterances.

    Args:
        mu, cond, noise: `[batch, 80, frames]`; `cond` is the mel of the prompt at the front, zero elsewhere.
        spks: `[batch, 80]`; mask: `[batch, 1, frames]`, 1 on frames that exist.
        chunk_size: frames per chunk of the attention mask; None for an estimator that has none.
    """
    fixed = {"mask": twice(mask), **_conditions(mu, spks, cond, chunk_size)}

    def velocity(step: int, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return call("flow_estimator", x=x, t=t, **fixed)["velocity"]

    return euler(velocity, noise, steps, cfg_rate)


def solve_chunk(
    call: Call,
    mu: np.ndarray,
    spks: np.ndarray,
    cond: np.ndarray,
    noise: np.ndarray,
    state: list[Arrays],
    chunk_size: int | None,
    steps: int = 10,
    cfg_rate: float = 0.7,
) -> tuple[np.ndarray, list[Arrays]]:
    """Return mel `[batch, 80, frames]` of the next frames, and the state after them: the same list, updated.

    The arguments are those of `solve` for these frames. Steps begin on the chunk grid; only the last may end off it.
    `state` holds one state per Euler step, `[2 x batch, ...]` (see `initial_solver_state`). Together they may take
    gigabytes, so each is dropped as soon as its successor exists.
    """
    fixed = _conditions(mu, spks, cond, chunk_size)

    def velocity(step: int, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        result = call("flow_estimator_chunk", x=x, t=t, **fixed, **state[step])
        state[step] = next_state(result)
        return result["velocity"]

    return euler(velocity, noise, steps, cfg_rate), state


def initial_state(stage: Stage, batch: int = 1) -> Arrays:
    """Return the state inputs (named `..._state`) of a stage at the start of a stream: zeros, with empty past axes.

    A past axis is one whose smallest size is 0; the only other axis that varies is the batch.
    """

    def first(dim: Dim) -> int:
        if isinstance(dim, int):
            return dim
        return batch if isinstance(dim, Axis) and dim.lo > 0 else 0

    states = (tensor for tensor in stage.inputs if tensor.name.endswith("_state"))
    return {tensor.name: np.zeros([first(dim) for dim in tensor.shape], tensor.dtype) for tensor in states}


def initial_solver_state(stage: Stage, steps: int, batch: int = 1) -> list[Arrays]:
    """Return the `initial_state` of the estimator's guided batch for every Euler step."""
    return [initial_state(stage, 2 * batch) for _ in range(steps)]


def next_state(outputs: Arrays) -> Arrays:
    """Return the state inputs of a stage's next call, from the `next_..._state` outputs of this one."""
    return {name.removeprefix("next_"): array for name, array in outputs.items() if name.startswith("next_")}


def within(stage: Stage, state: Arrays) -> Arrays:
    """Return the state without the oldest part of a past that is longer than the stage takes.

    Positions are counted from the newest, so what is left keeps its place; a state within the limits is unchanged.
    """
    cut = {tensor.name: _newest(tensor.shape, state[tensor.name]) for tensor in stage.inputs if tensor.name in state}
    return {**state, **cut}


def _newest(shape: tuple[Dim, ...], array: np.ndarray) -> np.ndarray:
    for place, dim in enumerate(shape):
        axis = dim.axis if isinstance(dim, Scaled) else dim
        if isinstance(axis, Axis) and axis.lo == 0:
            longest = size(dim, {axis.name: axis.hi})
            if array.shape[place] > longest:
                array = np.ascontiguousarray(np.delete(array, np.s_[: array.shape[place] - longest], axis=place))
    return array


def _conditions(mu: np.ndarray, spks: np.ndarray, cond: np.ndarray, chunk_size: int | None) -> Arrays:
    fixed = {"mu": guide(mu), "spks": guide(spks), "cond": guide(cond)}
    return fixed if chunk_size is None else {**fixed, "chunk_size": np.array([chunk_size], np.int64)}
