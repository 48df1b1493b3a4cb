"""Records of `export/coverage.py`, as the tables of README.md and docs/coverage.md show them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "coverage"
FORMATS = ("onnx", "torchscript", "tensorrt", "llm")
POINTS = ("smallest", "usual", "largest")
Entry = Mapping[str, Any]


def record_of(name: str) -> dict[str, Any]:
    """Return the record of a family; one without artifacts if there is none."""
    path = RECORDS / f"{name}.json"
    if not path.is_file():
        return {"family": name, "checkpoint": "", "artifacts": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def key_of(key: str) -> tuple[int, str]:
    """Return the place of an artifact in its record: by format, then by name."""
    return FORMATS.index(key.split("/")[0]), key


def summary(entries: Iterable[Entry], names: Iterable[str]) -> tuple[str, str]:
    """Return two cells of a format's row: what was recorded, and the worst error as a share of its limit.

    Args:
        entries: the records of that format.
        names: the stages or language model that the format covers.
    """
    wanted, entries = list(names), list(entries)
    if not entries:
        return "not recorded", "-"
    told, shares = [], []
    for precision in dict.fromkeys(entry["precision"] for entry in entries):
        some = [entry for entry in entries if entry["precision"] == precision]
        told.append(f"{precision}: {counted(some, len(wanted))}")
        worst = max((share(point) for entry in some for point in entry["compared"]), default=None)
        if worst is not None:
            shares.append(f"{precision} {worst:.1%}")
    dates = sorted({entry["date"] for entry in entries})
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{'; '.join(told)} ({period})", ", ".join(shares) or "-"


def counted(entries: list[Entry], of: int) -> str:
    """Return in words how many artifacts of one precision passed, and what is to be said about them."""
    passed = [entry for entry in entries if not entry["failure"]]
    compared = [entry for entry in passed if entry["compared"]]
    stages = [entry for entry in compared if entry["compared"][0]["point"] in POINTS]
    own, whole = sum(entry["own_file"] for entry in passed), sum(entry["whole_fp32"] for entry in passed)
    short = sum(all(point["point"] != "largest" for point in entry["compared"]) for entry in stages)
    notes = [f"{len(passed)} of {of}"]
    notes += [f"{len(entries) - len(passed)} failed"] * (len(passed) < len(entries))
    notes += [f"{own} the checkpoint's own"] * bool(own)
    notes += ["compiled, not run"] * bool(passed and not compared and not own)
    notes += [f"{whole} wholly in fp32"] * bool(whole)
    notes += [f"largest sizes not run for {short}"] * bool(short)
    return ", ".join(notes)


def share(point: Entry) -> float:
    """Return an error as a share of its limit; what is not finite counts as infinite."""
    return float("inf") if point["error"] is None else float(point["error"] / point["limit"])


def pages(names: Iterable[str]) -> str:
    """Return docs/coverage.md: every recorded artifact of these families."""
    parts = [
        "<!-- Written by python export/docs.py; do not edit. -->",
        "# What was built and compared",
        "`python export/coverage.py` builds every format of one checkpoint of each family and records each comparison\n"
        "with the torch module in fp32: the largest error over the peak of the output, at the smallest, usual and\n"
        "largest declared sizes, and its limit. The records are in `benchmarks/results/coverage`. TensorRT engines\n"
        "are compiled by TensorRT-RTX without a GPU and not run.",
    ]
    for name in names:
        found = record_of(name)
        entries = found["artifacts"].values()
        parts.append(f"## {name}")
        if not entries:
            parts.append("Nothing was recorded.")
            continue
        tools = {package: version for entry in entries for package, version in entry["tools"].items()}
        made = ", ".join(f"{package} {version}" for package, version in sorted(tools.items()) if version != "none")
        parts.append(textwrap.fill(f"Checkpoint: {found['checkpoint']}. Made with {made}.", 118))
        parts.append("\n".join(rows(entries)))
    return "\n\n".join(parts) + "\n"


def rows(entries: Iterable[Entry]) -> list[str]:
    """Return the lines of one family's table."""
    lines = ["| what | format | smallest | usual | largest | limit | date |", "|" + "---|" * 7]
    for entry in entries:
        cells = [f"`{entry['name']}`", f"{entry['format']} {entry['precision']}", *measured(entry), entry["date"]]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def measured(entry: Entry) -> list[str]:
    """Return the cells of an artifact's errors and their limit."""
    compared = entry["compared"]
    if entry["failure"]:
        return [f"failed: {entry['failure']}".replace("|", "/"), "", "", ""]
    if not compared:
        return ["the checkpoint's own file" if entry["own_file"] else "compiled, not run", "", "", ""]
    note = " (wholly in fp32)" if entry["whole_fp32"] else ""
    by_point = {point["point"]: number(point["error"]) for point in compared}
    if not set(by_point) & set(POINTS):
        told = ", ".join(f"{point['point']} {number(point['error'])} of {number(point['limit'])}" for point in compared)
        return [told, "", "", ""]
    return [*(by_point.get(point, "not run") for point in POINTS), number(compared[0]["limit"]) + note]


def number(value: float | None) -> str:
    """Return a number with two digits."""
    return "not finite" if value is None else f"{value:.1e}"
