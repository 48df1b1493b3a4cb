"""The description of a training run that a recipe hands to the loop."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

LOG = logging.getLogger("training")
"""Silent until a recipe opens it (`training.core.logs`); the scalars of a step are those of this process."""
FINISHED = "finished.json"
"""Written when a run reaches its end, not when it is interrupted: its steps, epochs and minutes."""


@dataclass(frozen=True)
class Evaluation:
    """The results of one evaluation.

    Args:
        scalars: numbers by name; the run's `metric` must be among them.
        images: log-mel spectrograms (or any [rows, columns] float array), low row at the bottom.
        audio: mono waveforms in [-1, 1] with their sample rates.
        alignments: any [rows, columns] float array, first row on top.
    """

    scalars: dict[str, float]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    audio: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    alignments: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training run, ready to start; everything is already on its device.

    Args:
        networks: all modules whose state belongs in the checkpoint (a moving average counts as one).
        batches: `batches(epoch, skip)` yields that epoch's batches for this process, without the first `skip`.
        step: `step(batch, step) -> scalars to log`; does forward, backward and the optimisers' steps itself, through
            `training.core.distributed.update`, so adversarial recipes need no support from the loop.
        evaluate: called on rank 0, networks in eval mode, without gradients; must not depend on earlier random draws.
        metric: name in `Evaluation.scalars` to minimise; `best.pt` follows it.
        schedulers: per optimiser name, from the fraction of the run done (0..1) to a factor of its base rate.
        rates: per optimiser name, from the number of the epoch to its learning rate. Such an optimiser keeps the
            settings it was created with after a resume, so that a changed configuration takes effect.
        extra_state: further objects with `state_dict` / `load_state_dict`.
        utterances: `utterances(epoch, number)` names the utterances of that batch of this process, for errors.
    """

    name: str
    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    batches: Callable[[int, int], Iterable[Any]]
    step: Callable[[Any, int], dict[str, float]]
    evaluate: Callable[[], Evaluation]
    metric: str
    max_steps: int
    schedulers: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    rates: Mapping[str, Callable[[int], float]] = field(default_factory=dict)
    extra_state: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    utterances: Callable[[int, int], Sequence[str]] = field(default=lambda _epoch, _number: ())

    def stateful(self) -> dict[str, dict[str, Any]]:
        """Return everything a checkpoint restores through `load_state_dict`, by section and name."""
        return {name: dict(getattr(self, name)) for name in ("networks", "optimizers", "extra_state")}


def warmup_cosine(warmup: float = 0.02, floor: float = 0.02) -> Callable[[float], float]:
    """Return the learning-rate factor: linear up over the first `warmup` of the run, then half a cosine down to
    `floor`.
    """

    def factor(fraction: float) -> float:
        if fraction < warmup:
            return max(fraction / warmup, 0.01)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - warmup) / (1 - warmup))))

    return factor


BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names that torch gives to a CPU's instructions for bfloat16; the last one is Arm's."""


def autocast(device: torch.device, enabled: bool = True) -> contextlib.AbstractContextManager[Any]:
    """Return a bfloat16 autocast on `device`; its exponent range is float32's, so no loss scaling is needed.

    A CPU without instructions for bfloat16 computes in float32: converting back and forth takes many times as long.
    """
    able = device.type != "cpu" or any(torch.cpu.get_capabilities().get(name) for name in BFLOAT16_INSTRUCTIONS)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and able)
