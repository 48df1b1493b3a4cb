"""A gate in the decoding loops of a served model, so that tests decide what has arrived before the next step.

The rendered Python models run a script of this module first. While its folder has the file `gate`, a loop waits before
it would decode beyond the number of rows in it, and writes how many sequences are open.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tritone.server import repository

PATCH = """
import os
import pathlib
import time

from tritone.lm import shared

folder = pathlib.Path(__file__).parent
advance = shared.SharedLm._advance


def held(self, chosen):
    def limit():
        try:
            return int((folder / "gate").read_text() or 0)
        except OSError:
            return 1 << 30

    while max(one.session._at - len(one.session.prompt) for one in chosen) >= limit():
        (folder / f"open-{os.getpid()}").write_text(str(len(self._open)))
        time.sleep(0.01)
    advance(self, chosen)


shared.SharedLm._advance = held
"""


class HeldLoop:
    """The gate of a server that is started with it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "held.py").write_text(PATCH)
        line = f"import sys; sys.path.insert(0, {str(folder)!r}); import held\n"
        patch.setattr(repository, "MODEL", line + repository.MODEL)

    @contextlib.contextmanager
    def closed(self, rows: int = 0) -> Iterator[None]:
        """Hold every sequence at this number of rows until the block ends."""
        gate = self.folder / "gate"
        gate.with_suffix(".new").write_text(str(rows))
        gate.with_suffix(".new").rename(gate)
        try:
            yield
        finally:
            gate.unlink()
            for path in self.folder.glob("open-*"):
                path.unlink()

    def open(self) -> int:
        """Return how many sequences are open in the held loop that has the most."""
        return max((int(path.read_text() or 0) for path in self.folder.glob("open-*")), default=0)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Return when the condition holds, while the gate is closed."""
        deadline = time.monotonic() + 120
        while not reached():
            assert time.monotonic() < deadline, f"{self.open()} sequences were open after two minutes"
            time.sleep(0.02)
