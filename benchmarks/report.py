"""Reports of measurements: NAME.json with every number, NAME.html to read, NAME.png with the plot."""

from __future__ import annotations

import datetime
import hashlib
import html
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
"""The committed results; a measurement is written there only if its folder is named."""
FRESH = Path(__file__).resolve().parents[1] / "build" / "benchmarks"
"""The folder of new results."""
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}caption{text-align:left;font-weight:600}img{max-width:100%}small{color:#666}"""


@dataclass(frozen=True)
class Table:
    """A caption, column heads, and rows of text or numbers (floats are shown with three digits)."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]


def write_report(
    name: str, title: str, data: dict[str, Any], tables: Sequence[Table], figure: Any = None, folder: Path = FRESH
) -> Path:
    """Return the written page's path; JSON and plot lie beside it under the same name.

    Args:
        data: all measured numbers, written under "results" beside the machine and date.
        figure: a matplotlib Figure, or None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    origin, about = stamp(), machine()
    record = {"title": title, **origin, "machine": about, "results": data}
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{html.escape(title)}</h1>")
    if figure is not None:
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        parts.append(f'<img src="{name}.png" alt="{html.escape(title)}">')
    parts += [_table(table) for table in tables]
    words = html.escape(", ".join(f"{key} {value}" for key, value in about.items()))
    parts.append(f"<p><code>{html.escape(origin['command'])}</code>")
    parts.append(f'<p><small>{origin["date"]}; {words}; numbers in <a href="{name}.json">{name}.json</a>')
    page = folder / f"{name}.html"
    page.write_text("\n".join(parts) + "\n")
    return page


def machine() -> dict[str, str | int | float]:
    """Return the conditions of a measurement: processor, cores, load of the machine, versions, commit, nano voice."""
    found: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "commit": _commit(),
        "voice": voice(),
    }
    for package in ("onnxruntime", "torch", "pocketsphinx"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def stamp() -> dict[str, str]:
    """Return today's date and the command line of this process, its script's path as seen from the checkout."""
    words = [sys.argv[0].removeprefix(f"{ROOT}{os.sep}"), *sys.argv[1:]]
    return {"date": datetime.date.today().isoformat(), "command": f"python {shlex.join(words)}"}


def voice(checkpoint: Path = ROOT / "checkpoints" / "nano") -> str:
    """Return eight hexadecimal digits that stand for the content of the voice in this checkout."""
    digest = hashlib.sha256()
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(checkpoint)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:8]


def new_figure(width: float = 9.0, height: float = 4.0, columns: int = 1) -> tuple[Any, Any]:
    """Return a matplotlib figure without a display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{_cell(value)}" for value in row) + "\n" for row in table.rows)
    return f"<table><caption>{html.escape(table.caption)}</caption><tr>{head}\n{rows}</table>"


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"
