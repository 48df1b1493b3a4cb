"""The stage description: the few nouns every exporter, server config, parity check and document is derived from.

A family is a list of stages, host steps (NumPy glue) and one language model. Nothing here imports more than NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tritone.calls import Arrays as Arrays
from tritone.calls import Call as Call
from tritone.calls import FilesRead, Run, Synthesize, SynthesizePieces
from tritone.lm.description import CausalLm, NoLm, StageLm


@dataclass(frozen=True)
class Axis:
    """A size that varies from call to call, with the range every engine must cover.

    Args:
        name: a word, unique within the family ("frames", "speech_tokens"); becomes the symbolic ONNX dimension.
        lo, opt, hi: smallest, usual and largest size; engines build their profiles from these three.
    """

    name: str
    lo: int
    opt: int
    hi: int

    def __post_init__(self) -> None:
        if not (self.name.isidentifier() and 0 <= self.lo <= self.opt <= self.hi):
            raise ValueError(f"axis {self.name!r}: need an identifier and 0 <= lo <= opt <= hi, got {self}")


@dataclass(frozen=True)
class Scaled:
    """A size computed from an axis: `factor * axis + offset` (480 samples per frame is `Scaled(480, FRAMES)`)."""

    factor: int
    axis: Axis
    offset: int = 0


Dim = int | Axis | Scaled


@dataclass(frozen=True)
class Tensor:
    """A named array at a stage boundary: its dtype and shape never change with the precision inside the stage.

    Args:
        name: the tensor's name in every format and on the wire.
        dtype: a NumPy dtype name ("float32", "int64", "int32").
        shape: sizes, axes, or sizes computed from axes.
        values: for example data, the half-open range of integers, or (mean, deviation) of floats.
        length_of: for a `[batch]` tensor of valid lengths, their axis; for a host step's input, its parts' axis.
        optional, allowed: a request may omit it (never a stage's); the least and largest number a host step takes.
        scale: the smallest peak that errors are measured against, for tensors that may be almost zero.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    values: tuple[float, float] = (0, 1)
    length_of: Axis | Scaled | None = None
    optional: bool = False
    scale: float = 0.0
    allowed: tuple[float, float] | None = field(default=None, repr=False)

    def sizes(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the concrete shape under the given axis sizes."""
        return tuple(size(dim, axes) for dim in self.shape)

    def example(self, axes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
        """Return fresh random data of the concrete shape; lengths are ragged but always include the full length."""
        shape = self.sizes(axes)
        if self.length_of is not None:
            full = size(self.length_of, axes)
            axis = self.length_of.axis if isinstance(self.length_of, Scaled) else self.length_of
            lengths = rng.integers(max(1, min(axis.lo, full)), full + 1, shape)
            lengths[0] = full
            return lengths.astype(self.dtype)
        if np.issubdtype(np.dtype(self.dtype), np.integer):
            low, high = int(self.values[0]), max(int(self.values[0]) + 1, int(self.values[1]))
            return rng.integers(low, high, shape).astype(self.dtype)
        return (self.values[0] + self.values[1] * rng.standard_normal(shape)).astype(self.dtype)


def size(dim: Dim, axes: Mapping[str, int]) -> int:
    """Return the number a dimension stands for under the given axis sizes."""
    if isinstance(dim, int):
        return dim
    if isinstance(dim, Scaled):
        return dim.factor * axes[dim.axis.name] + dim.offset
    return axes[dim.name]


@dataclass(frozen=True)
class Stage:
    """A pure function of tensors with a torch module behind it.

    Args:
        build: returns the module in eval mode with its weights loaded; its forward takes the inputs in order and
            returns the outputs in order (a tuple, or one tensor). None for a ready-made ONNX `file`.
        file: name of the ONNX file in the checkpoint that already is this stage; its tensors go by position.
        tolerance, fp16_tolerance: largest difference of an fp32 or mixed fp16 export, relative to the output's peak.
        keep_fp32: patterns (`fnmatch`) of graph node names that stay fp32 in mixed fp16, chosen by bisection.
        published: the published file stem of the module ("flow.encoder"); default: the name.
        regret: for outputs that are choices: `regret()(inputs, outputs)` names how much worse each is than the best.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    build: Callable[[], Any] | None
    tolerance: float = 1e-4
    file: str = ""
    fp16_tolerance: float = 2e-2
    keep_fp32: tuple[str, ...] = ()
    published: str = ""
    regret: Callable[[], Callable[[Arrays, Arrays], Arrays]] | None = None

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis named by an input, in order of first use."""
        axes: dict[str, Axis] = {}
        for tensor in self.inputs:
            for dim in tensor.shape:
                if not isinstance(dim, int):
                    axis = dim.axis if isinstance(dim, Scaled) else dim
                    if axes.setdefault(axis.name, axis) != axis:
                        raise ValueError(f"stage {self.name}: axis {axis.name!r} is declared with two different ranges")
        return tuple(axes.values())

    def sizes(self, which: str) -> dict[str, int]:
        """Return all axes at their "lo", "opt" or "hi" size."""
        return {axis.name: getattr(axis, which) for axis in self.axes}

    def example(self, axes: Mapping[str, int], seed: int = 0) -> Arrays:
        """Return fresh random inputs by name for the given axis sizes."""
        rng = np.random.default_rng(seed)
        return {tensor.name: tensor.example(axes, rng) for tensor in self.inputs}


@dataclass(frozen=True)
class Host:
    """A step in NumPy or plain Python around the stages: text, mel, resampling, length expansion, solver loops.

    Args:
        run: takes a list of requests, each a dict of unpadded arrays with a leading batch of 1.
        uses: the stages it calls, and "llm" when it needs the language model.
        long: whether long speech takes it long; on a CPU it gets two processes, so that short requests pass long ones.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    run: Run
    uses: tuple[str, ...] = ()
    long: bool = False


@dataclass(frozen=True)
class Family:
    """One model family at one checkpoint: its stages, host steps, language model, and the order of calls.

    Args:
        hosts: the ensemble's steps in order; each output feeds later inputs of its name. settings: what it publishes.
        services: steps served on their own, too. files: the checkpoint's files that it reads (None: all there are).
        synthesize_pieces: speaks text still arriving. kept: voices' states, bytes. trial: a trial's further inputs.
    """

    name: str
    stages: tuple[Stage, ...]
    lm: NoLm | StageLm | CausalLm
    request: tuple[Tensor, ...]
    response: tuple[Tensor, ...]
    synthesize: Synthesize
    hosts: tuple[Host, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    services: tuple[Host, ...] = ()
    synthesize_pieces: SynthesizePieces | None = None
    kept: Callable[[], tuple[int, int]] | None = None
    trial: Arrays = field(default_factory=dict)
    files: Callable[[], FilesRead] | None = None

    @property
    def causal_lm(self) -> CausalLm | None:
        """The language model that engines load as a whole; None without one, or if its steps are stages."""
        return self.lm if isinstance(self.lm, CausalLm) else None

    def stage(self, name: str) -> Stage:
        """Return the stage of that name; KeyError names those that exist."""
        if found := [stage for stage in self.stages if stage.name == name]:
            return found[0]
        raise KeyError(f"{self.name} has no stage {name!r}; its stages are {', '.join(s.name for s in self.stages)}")
