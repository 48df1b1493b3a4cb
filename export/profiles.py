"""Ranges of axes other than the declared ones, for engines that need not cover everything the checkpoint can do.

A narrower profile takes less GPU memory: an engine reserves what its largest sizes need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tritone.call import listed
from tritone.errors import ConfigError
from tritone.stage import Axis, Scaled, Stage, Tensor

Range = tuple[int, int, int]
"""Smallest, usual and largest size."""


def read_profile(text: str, stages: Iterable[Stage]) -> dict[str, Range]:
    """ "frames=4/500/3000,rows=1/2/8" as axis name -> (smallest, usual, largest).

    Raises:
        ConfigError: not of this form, an axis none of the stages has, or sizes inverted or outside the declared range.
    """
    axes = {axis.name: axis for stage in stages for axis in stage.axes}
    found: dict[str, Range] = {}
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
        found[name] = sizes
    return found


def profiled(stage: Stage, profile: Mapping[str, Range]) -> Stage:
    """The same stage with the ranges of its axes replaced where the profile has others."""

    def axis(old: Axis) -> Axis:
        return Axis(old.name, *profile[old.name]) if old.name in profile else old

    def dim(old: int | Axis | Scaled) -> int | Axis | Scaled:
        if isinstance(old, Scaled):
            return replace(old, axis=axis(old.axis))
        return axis(old) if isinstance(old, Axis) else old

    def tensors(old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        lengths = [t.length_of if t.length_of is None else dim(t.length_of) for t in old]
        return tuple(
            replace(t, shape=tuple(dim(d) for d in t.shape), length_of=length)
            for t, length in zip(old, lengths, strict=True)
        )

    return replace(stage, inputs=tensors(stage.inputs), outputs=tensors(stage.outputs))
