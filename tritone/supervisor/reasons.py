"""Says why a server ended: first what its exit status means, then the error in its log that explains it."""

from __future__ import annotations

import re
import signal

FAILED = re.compile(r"failed to load '([^']+)' version \d+: (.*)")
HARMLESS = ("CudaDriverHelper", "unable to create stream for", "CUDA driver version is insufficient")
"""Parts of error lines that every healthy server without a GPU writes."""
LAST_LINES = 3


def explain(log: str) -> str:
    """Return the first relevant error of a Triton log: the reason a model did not load, or the first error line."""
    failure = FAILED.search(log)
    if failure:
        reason = re.split(r"(?:\\n|\n)+At:", failure.group(2))[0].removeprefix("Internal: ")
        return f"model {failure.group(1)} did not load: {reason.strip()}"
    for line in log.splitlines():
        harmless = any(words in line for words in HARMLESS)
        if (re.match(r"E\d{4} ", line) and not harmless) or "error while loading" in line:
            return line.split("]", 1)[-1].strip(' "')
    first = next(filter(None, map(str.strip, log.splitlines())), "its log is empty")
    return f"its log has no error; it ends with: {last_words(log)}" if re.match(r"[IWE]\d{4} ", first) else first


def ending(status: int, log: str) -> str:
    """Return the reason for the end of a server, to be read after its name: "was killed (signal 9), ...".

    Args:
        status: its exit status; minus the number of the signal that ended it.
        log: everything it wrote.
    """
    if status == -signal.SIGKILL:
        return (
            "was killed (signal 9), often because the machine or its container had no memory left; "
            "`dmesg` says so if the kernel did it"
        )
    if status == -signal.SIGTERM or status == -signal.SIGINT:
        return f"was stopped by {signal.Signals(-status).name} (signal {-status}), which another program sent"
    if status < 0:
        known = {int(number): number.name for number in signal.Signals}
        name = {"SIGSEGV": "a segmentation fault", "SIGABRT": "an abort", "SIGBUS": "a bus error"}.get(
            known.get(-status, ""), known.get(-status, "a signal")
        )
        return f"was ended by {name} (signal {-status}); its log ends with: {last_words(log)}"
    return f"stopped with code {status}: {explain(log)}"


def last_words(log: str) -> str:
    """Return the last lines of the log in one line, without Triton's tables, times and places in its source."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and line.strip()[0] not in "+|"]
    lines = [line for line in lines if not any(words in line for words in HARMLESS)]
    words = [re.sub(r'^[IWE]\d{4} \S+ \d+ \S+\] "?|"$', "", line) for line in lines[-LAST_LINES:]]
    return " / ".join(words) or "nothing"
