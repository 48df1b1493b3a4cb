"""Options of the plan builder: the GPU, memory and effort, and the ranges of sizes.

A loaded plan reserves what its largest sizes need, so ranges narrower than the declared ones take less GPU memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tritone.engines.inputs import listed
from tritone.errors import ConfigError
from tritone.stage import Axis, Scaled, Stage, Tensor

Range = tuple[int, int, int]
"""Smallest, usual and largest size."""
TIMING_CACHE = "timing.cache"


@dataclass(frozen=True)
class Options:
    """Options of the plan builder.

    Args:
        compute_capability: "8.9", or several for TensorRT-RTX; empty for this machine's GPU, or without one a portable
            plan.
        profile: axis name -> smallest, usual, largest size, instead of the declared range.
        workspace: MiB of scratch memory a layer may use on the GPU; 0 for TensorRT's own limit, all of the memory.
        level: 0 (fastest build) to 5 (longest search for kernels).
        timing_cache: file of kernel times measured by earlier builds; None for a file beside the plan.
        progress: called with the name of each phase of the build.
    """

    compute_capability: str = ""
    profile: Mapping[str, Range] = field(default_factory=dict)
    workspace: int = 0
    level: int = 3
    timing_cache: Path | None = None
    progress: Callable[[str], None] | None = None


def options(out: Path, compute_capability: str | None, profile: Sequence[str], stages: Iterable[Stage]) -> Options:
    """Return the options of a command line.

    Args:
        profile: texts for `read_profile`; of two for the same axis the last one counts.
    """
    stages, ranges = list(stages), {}
    for text in profile:
        ranges.update(read_profile(text, stages))
    return Options(compute_capability or "", ranges, timing_cache=out / "tensorrt" / TIMING_CACHE)


def read_profile(text: str, stages: Iterable[Stage]) -> dict[str, Range]:
    """Return (smallest, usual, largest) by axis name from a text like "frames=4/500/3000,batch=1/2/8".

    Raises:
        ConfigError: the text is not of this form, no stage has the axis, or sizes are inverted or out of range.
    """
    axes = {axis.name: axis for stage in stages for axis in stage.axes}
    ranges: dict[str, Range] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\w+)\s*=\s*(\d+)/(\d+)/(\d+)\s*", part)
        if match is None:
            raise ConfigError(f"profile {part.strip()!r}; write axis=smallest/usual/largest, such as frames=4/500/3000")
        name, sizes = match[1], (int(match[2]), int(match[3]), int(match[4]))
        if name not in axes:
            raise ConfigError(f"profile for axis {name!r}, which no stage has; the axes are {listed(sorted(axes))}")
        axis, written = axes[name], "/".join(map(str, sizes))
        if not sizes[0] <= sizes[1] <= sizes[2]:
            raise ConfigError(f"profile {name}={written} is inverted; need smallest <= usual <= largest")
        if sizes[0] < axis.lo or sizes[2] > axis.hi:
            raise ConfigError(f"profile {name}={written} is out of range; {name} is declared as {axis.lo} to {axis.hi}")
        ranges[name] = sizes
    return ranges


def profiled(stage: Stage, profile: Mapping[str, Range]) -> Stage:
    """Return the stage with the ranges of the profile's axes replaced."""

    def axis(old: Axis) -> Axis:
        return Axis(old.name, *profile[old.name]) if old.name in profile else old

    def named(old: Axis | Scaled) -> Axis | Scaled:
        return replace(old, axis=axis(old.axis)) if isinstance(old, Scaled) else axis(old)

    def dim(old: int | Axis | Scaled) -> int | Axis | Scaled:
        return old if isinstance(old, int) else named(old)

    def tensors(old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        lengths = [None if t.length_of is None else named(t.length_of) for t in old]
        return tuple(
            replace(t, shape=tuple(dim(d) for d in t.shape), length_of=length)
            for t, length in zip(old, lengths, strict=True)
        )

    return replace(stage, inputs=tensors(stage.inputs), outputs=tensors(stage.outputs))
