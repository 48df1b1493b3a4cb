"""Parity results for people and machines: aligned text, JSON, and one HTML page with its plots inside."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import ConfigError
from tritone.parity.compare import Row

STYLE = """body{font:14px system-ui;margin:2em;max-width:75em}table{border-collapse:collapse}
td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}
tr.bad{background:#fdd}img{max-width:100%}"""


def table(rows: Sequence[Row], skipped: Sequence[str] = ()) -> str:
    """Return the comparisons as aligned text, followed by what was left out."""
    lines = [f"{'what':22} {'format':16} {'point':14} {'error':>9} {'tolerance':>9} {'seconds':>8}  sizes"]
    for row in rows:
        tolerance = "-" if row.tolerance is None else f"{row.tolerance:9.1e}"
        details = [f"{name}={value}" for name, value in row.sizes.items()]
        details += [f"{name} {value:.3g}" for name, value in row.sound.items()]
        verdict = "" if row.passed else f"  FAILED {row.problem}"
        lines.append(
            f"{row.name:22} {row.format:16} {row.point:14} {row.error:9.1e} {tolerance:>9} {row.seconds:8.3f}"
            f"  {' '.join(details)}{verdict}"
        )
    return "\n".join([*lines, *(f"not compared: {line}" for line in skipped)])


def write_json(path: Path, rows: Sequence[Row], skipped: Sequence[str] = ()) -> None:
    """Write the comparisons as `{"rows": [...], "not_compared": [...]}`; numbers that are not finite become null."""
    listed = [{**asdict(row), "passed": row.passed} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": plain(listed), "not_compared": list(skipped)}, indent=1) + "\n")


def plain(value: Any) -> Any:
    """Return the value with every number that is not finite replaced by None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_html(path: Path, rows: Sequence[Row], skipped: Sequence[str] = ()) -> None:
    """Write one page: the verdict, a plot of errors over tolerances, every comparison, and what was left out.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    failed = [row for row in rows if not row.passed]
    verdict = f"{len(failed)} of {len(rows)} comparisons failed" if failed else f"all {len(rows)} comparisons passed"
    head = "".join(f"<th>{name}</th>" for name in ("what", "format", "point", "error", "tolerance", "s", "sizes", ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>Parity</title><style>{STYLE}</style><h1>Parity: {verdict}</h1>"
        f'<p><img alt="errors by stage and format" src="data:image/png;base64,{plot(rows)}"></p>'
        f"<table><tr>{head}</tr>{''.join(map(html_row, rows))}</table>"
        + "".join(f"<p>not compared: {html.escape(line)}</p>" for line in skipped)
        + "\n"
    )


def html_row(row: Row) -> str:
    """Return one comparison as a table row."""
    sizes = " ".join(f"{name}={value}" for name, value in row.sizes.items())
    sound = " ".join(f"{name} {value:.3g}" for name, value in row.sound.items())
    cells = [row.name, row.format, row.point]
    numbers = [f"{row.error:.1e}", "-" if row.tolerance is None else f"{row.tolerance:.0e}", f"{row.seconds:.3f}"]
    return (
        f"<tr{'' if row.passed else ' class=bad'}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "".join(f"<td class=n>{number}</td>" for number in numbers)
        + f"<td>{html.escape(sizes)}</td><td>{html.escape(row.problem or sound)}</td></tr>"
    )


def plot(rows: Sequence[Row]) -> str:
    """Return the worst error of each stage in each format over its tolerance, as a base64 PNG (logarithmic axis)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("the page needs matplotlib; run: pip install matplotlib, or leave out --html") from error
    gated = [row for row in rows if row.tolerance]
    names = list(dict.fromkeys(row.name for row in gated))
    forms = list(dict.fromkeys(row.format for row in gated))
    figure = Figure(figsize=(10, 1.2 + 0.5 * max(1, len(names))), layout="constrained")
    axes = figure.subplots()
    for index, form in enumerate(forms):
        worst = {
            name: max((ratio(row) for row in gated if (row.name, row.format) == (name, form)), default=None)
            for name in names
        }
        places = [place for place, name in enumerate(names) if worst[name] is not None]
        heights = [worst[names[place]] or 0.0 for place in places]
        offset = (index - (len(forms) - 1) / 2) * 0.8 / max(1, len(forms))
        axes.barh([place + offset for place in places], heights, 0.8 / max(1, len(forms)), label=form)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set(xscale="log", yticks=range(len(names)), xlabel="worst error / tolerance (right of the line fails)")
    axes.set_yticklabels(names)
    axes.invert_yaxis()
    if forms:
        axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def ratio(row: Row) -> float:
    """Return the error over the tolerance, clipped to what a logarithmic axis can show."""
    assert row.tolerance
    return float(np.clip(row.error / row.tolerance, 1e-6, 1e6))
