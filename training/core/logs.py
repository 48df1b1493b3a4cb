"""A log file for every process, so that an error on a single rank can be read afterwards."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from training.core import distributed

FORMAT = "%(asctime)s\t%(levelname)s\t%(message)s"


def open_log(out: Path) -> logging.Logger:
    """Return the logger "training", writing to `out/train.rank<n>.log`; warnings of rank 0 also go to the console."""
    log = logging.getLogger("training")
    close_log(log)
    log.setLevel(logging.INFO)
    out.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(out / f"train.rank{distributed.rank()}.log", "a", "utf-8")]
    if distributed.rank() == 0:
        console = logging.StreamHandler(sys.stderr)
        console.setLevel(logging.WARNING)
        handlers.append(console)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        log.addHandler(handler)
    return log


def close_log(log: logging.Logger) -> None:
    """Close and remove the logger's handlers."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
