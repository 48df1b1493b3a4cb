"""The speed of the machine, measured while it speaks: seconds of speech a second, from all streams together.

From it follows how many streams it carries in real time. A stream gets its share of the speed; with `n` at once each
gets `speed / n`, which must stay above 1 with some room.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW = 1.0
"""Seconds over which speed is measured."""
ROOM = 0.8
"""The part of the measured speed that is given away."""
DOWN = 0.2
"""The weight of a slower window; a faster one counts at once, as speed is only reached under load."""


class Pace:
    """Measures the speech that all streams make.

    Args:
        speed: seconds of speech a second, from a measurement at the start.
        fixed: a number of streams that is used instead of the measured one.
    """

    def __init__(
        self, speed: float = 1.0, fixed: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.speed, self._fixed, self._clock = speed, fixed, clock
        self._since, self._made, self._busy = clock(), 0.0, True

    @property
    def streams(self) -> int:
        """Streams that the machine carries in real time, at least one."""
        return self._fixed if self._fixed is not None else max(1, int(self.speed * ROOM))

    def made(self, seconds: float) -> None:
        """Count speech that a stream has made."""
        self._made += seconds

    def tick(self, streams: int, others: int = 0) -> None:
        """Close a window once it is full.

        Only a window in which as many requests ran as may run tells the speed; in any other the machine may have had
        nothing to do, so that it can only raise it.

        Args:
            streams: streams being synthesised at this moment.
            others: other requests that take their share of the machine.
        """
        active = streams + others
        self._busy = self._busy and active >= max(1, self.streams - 1)
        now = self._clock()
        if now - self._since < WINDOW:
            return
        measured = self._made / (now - self._since) * (active / streams if streams else 0.0)
        if measured > self.speed:
            self.speed = measured
        elif self._busy and streams:
            self.speed += DOWN * (measured - self.speed)
        self._since, self._made, self._busy = now, 0.0, True
