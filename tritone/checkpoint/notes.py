"""Notes of the readers of checkpoints to their user, each said once in a process. Standard library only."""

from __future__ import annotations

import logging
from functools import lru_cache

_LOG = logging.getLogger("tritone.checkpoint")


@lru_cache(maxsize=1024)
def note(message: str) -> None:
    """Write a line to the log, the first time that it is said."""
    _LOG.warning("%s", message)
