"""The model card of a trained voice: data, sizes, training time and measured quality."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from training.core.lineage import before
from training.core.run import FINISHED
from training.corpus.data import Corpus
from tritone.checkpoint.lines import text_lines

RUNS = {
    "tokenizer": "speech tokenizer (FSQ, 25 Hz, 6561 codes)",
    "speaker": "speaker embedder (192 numbers)",
    "vocoder": "HiFT vocoder",
    "flow": "flow (speech tokens to mel)",
    "lm": "language model (phones to speech tokens)",
}

TAKEN_LAST = ("vocoder",)
"""Runs whose newest network is the voice's, not the one best by its metric."""


def model_card(corpus: Corpus, runs: Path, sizes: dict[str, int], quality: list[Path]) -> str:
    """Return the card as Markdown.

    Args:
        sizes: numbers stored in llm.pt, flow.pt and hift.pt. quality: JSON reports of the benchmarks, to be quoted.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    count: Counter[str] = Counter()
    for utterance in corpus.utterances:
        seconds[utterance.speaker] += utterance.samples / 16000
        count[utterance.speaker] += 1
    lines = [
        "# Model card",
        "",
        "A small text-to-speech voice in the CosyVoice 2 directory layout, trained from scratch by",
        "`python -m training cosyvoice`. English, phones from gruut, 24 kHz (the recordings have 16).",
        "",
        "## Data",
        "",
        "Sentences of 4 to 14 words cut from the texts of Debian's package `fortunes`, spoken by the voices of",
        "Debian's `flite` (statistical and diphone models of real speakers; licences in that package). One in 50 is",
        "held out. The sentences of `benchmarks/harvard.txt` are not among them.",
        "",
        "| speaker | sentences | hours |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {count[name]} | {seconds[name] / 3600:.2f} |" for name in corpus.speakers),
        f"| all | {len(corpus)} | {sum(seconds.values()) / 3600:.2f} |",
        "",
        "## Sizes",
        "",
        "| file | numbers (float16) |",
        "| --- | ---: |",
        *(f"| {name}.pt | {size / 1e6:.2f} M |" for name, size in sizes.items()),
        "",
        "## Training",
        "",
        "| network | steps | epochs | wall minutes | measured on held-out sentences |",
        "| --- | ---: | ---: | ---: | --- |",
        *(_run_row(runs / name, title) for name, title in RUNS.items()),
        "",
        "Steps and minutes before a `+` are those of earlier runs whose weights the last one started from.",
        "",
    ]
    for path in quality:
        lines += ["## Quality", "", *_tables(json.loads(path.read_text(encoding="utf-8"))), ""]
    return "\n".join(lines)


def _run_row(run: Path, title: str) -> str:
    """Return one line of the training table: the length of the run and the evaluation of the network that was kept."""
    finished = json.loads((run / FINISHED).read_text())
    rows = [json.loads(line) for _, line in text_lines(run / "metrics.jsonl")]
    best = rows[-1] if run.name in TAKEN_LAST else min(rows, key=lambda row: float(row[finished["metric"]]))
    scores = ", ".join(f"{k} {v:.4g}" for k, v in best.items() if k not in ("step", "epoch", "minutes"))
    steps, minutes = before(run)
    after = {"steps": f"{steps} + ", "minutes": f"{minutes} + "} if steps else {}
    took = " | ".join(f"{after.get(name, '')}{finished[name]}" for name in ("steps", "epochs", "minutes"))
    return f"| {title} | {took} | {scores} (step {best['step']}) |"


def _tables(report: dict[str, Any]) -> list[str]:
    """Return a benchmark report as Markdown: when and where it was measured, then its `results`, one table per kind."""
    machine = report.get("machine", {})
    lines = [f"{report['title']}, {report['date']}, {machine.get('processor')}, {machine.get('cores')} cores."]
    for name, rows in report["results"].items():
        columns = [key for key, value in next(iter(rows.values())).items() if not isinstance(value, dict | list)]
        lines += ["", f"| {name} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
        lines += [
            f"| {key} | {' | '.join(_plain(row.get(column)) for column in columns)} |" for key, row in rows.items()
        ]
    return lines


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
