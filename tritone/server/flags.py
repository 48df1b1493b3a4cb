"""Flags by which the front door cancels or pauses requests inside the models.

Triton 2.51 tells neither to the steps of an ensemble. The door gives each request an id of its own, which reaches
every step, and puts a file of that name into a folder; asking for it takes two microseconds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

VARIABLE = "TRITONE_FLAGS"
"""The environment variable that names the folder to the model processes."""
PLAIN = re.compile(r"[A-Za-z0-9-]{1,64}")
CANCELLED, PAUSED = ".cancelled", ".paused"


class Flags:
    """The flags of the requests inside one server.

    Args:
        folder: the folder of the files; None where no front door is in front of Triton, so that nothing is flagged.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else str(folder)

    @classmethod
    def from_environment(cls) -> Flags:
        """Return the flags of the server that this process belongs to."""
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder) if folder else None)

    def known(self, request_id: str) -> bool:
        """Return True if a front door gave the request its id, so that it would flag a cancellation."""
        return self._folder is not None and PLAIN.fullmatch(request_id) is not None

    def cancelled(self, request_id: str) -> bool:
        """Return True if the client of the request has left."""
        return self._has(request_id, CANCELLED)

    def paused(self, request_id: str) -> bool:
        """Return True if the client of the request does not read what is ready."""
        return self._has(request_id, PAUSED)

    def mark_cancelled(self, request_id: str) -> None:
        """Flag that the client has left."""
        self._mark(request_id, CANCELLED)

    def mark_paused(self, request_id: str) -> None:
        """Flag that the client does not read."""
        self._mark(request_id, PAUSED)

    def unmark_paused(self, request_id: str) -> None:
        """Remove that flag."""
        self._unmark(request_id, PAUSED)

    def clear(self, request_id: str) -> None:
        """Remove every flag of a request that has ended."""
        self._unmark(request_id, CANCELLED)
        self._unmark(request_id, PAUSED)

    def _has(self, request_id: str, flag: str) -> bool:
        return self.known(request_id) and os.path.exists(f"{self._folder}/{request_id}{flag}")

    def _mark(self, request_id: str, flag: str) -> None:
        if self.known(request_id):
            Path(f"{self._folder}/{request_id}{flag}").touch()

    def _unmark(self, request_id: str, flag: str) -> None:
        if self.known(request_id):
            Path(f"{self._folder}/{request_id}{flag}").unlink(missing_ok=True)
