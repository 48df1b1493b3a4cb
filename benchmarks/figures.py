"""The table of measured figures in the README: each is read from a committed result, and names it and its command.

`python export/docs.py` writes the table, so that no figure stands there which no result shows. A figure that depends
on the nano voice must come from the voice in this checkout; `outdated` names those that do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, voice

Record = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Args:
        what: the words before the figure.
        result: name of the file in `benchmarks/results`, without suffix.
        command: what to type to measure it again; "" if the file says so itself.
        read: returns the figure's text from the file's content.
        of_voice: whether it depends on the nano voice.
    """

    what: str
    result: str
    read: Callable[[Any], str]
    command: str = ""
    of_voice: bool = False


def levels(record: Record) -> list[Record]:
    """Return the load levels measured by the client, by rising number of streams."""
    return [row for row in record["results"]["levels"] if row["tool"] == "client"]


def joined(values: list[float], form: str) -> str:
    """Return several numbers as `a / b / c`."""
    return " / ".join(format(value, form) for value in values)


def by_speaker(record: Record, key: str) -> str:
    """Return one number of each speaker in alphabetical order."""
    speakers = record["results"]["speakers"]
    return joined([speakers[name][key] for name in sorted(speakers)], ".2f")


def span(values: list[float], form: str = ".2f") -> str:
    """Return the smallest and the largest as `a to b`."""
    return f"{min(values):{form}} to {max(values):{form}}"


def streamed_beside_whole(record: Record) -> str:
    """Return how far streams are from one pass, and how the cost of chunks goes."""
    rows = record["results"]["rows"]
    largest = max(row["largest_difference"] for row in rows)
    return f"{largest:.1e}; {span([row['late_over_early_cpu'] for row in rows])}"


def bert_vits2(record: Record) -> str:
    """Return the CPU seconds of one utterance with each engine."""
    (whole,) = (row for row in record["results"]["stages"] if row["stage"] == "all")
    return joined([whole[name] for name in ("eager", "torch", "onnxruntime")], ".1f") + " CPU s"


def engine(record: Record) -> str:
    """Return CPU seconds and the peak of memory of compiling the fp32 engine."""
    (step,) = (step for step in record["steps"] if step["step"] == "engine fp32")
    return f"{step['cpu_seconds']:.0f} s, {step['peak_gib']:.1f} GiB"


FIGURES = (
    Figure(
        "fresh clone and empty environment to the first wav; size of `.venv`",
        "first_use",
        lambda r: f"{r['results']['first_s']:.0f} s, {r['results']['environment_gb']:.1f} GB",
        of_voice=True,
    ),
    Figure(
        "second `make say`, from command to wav",
        "first_use",
        lambda r: f"{r['results']['second_s']:.0f} s",
        of_voice=True,
    ),
    Figure(
        "time to first audio, 1 / 2 / 4 streams (P50)",
        "load",
        lambda r: joined([1000 * row["first_audio"]["p50"] for row in levels(r)], ".0f") + " ms",
        "make bench",
        True,
    ),
    Figure(
        "real-time factor, 1 / 2 / 4 streams (P50)",
        "load",
        lambda r: joined([row["real_time_factor"]["p50"] for row in levels(r)], ".2f"),
        "make bench",
        True,
    ),
    Figure(
        "memory of the server and all models under that load",
        "load",
        lambda r: f"{r['results']['server_memory_gib']:.1f} GiB",
        "make bench",
        True,
    ),
    Figure(
        "a second of speech in a whole utterance of 2.5 to 55 s",
        "whole",
        lambda r: span([row["cpu_s_per_audio_s"] for row in r["results"]["whole"]]) + " CPU s",
        "python benchmarks/serving/whole.py",
        True,
    ),
    Figure(
        "streamed audio beside one pass, largest difference; CPU time of a late chunk over an early one",
        "streaming",
        streamed_beside_whole,
        "make bench",
        True,
    ),
    Figure(
        "word error rate of awb / kal16 / rms / slt (pocketsphinx, 30 sentences)",
        "quality",
        lambda r: by_speaker(r, "wer"),
        "make bench",
        True,
    ),
    Figure(
        "the same for the flite voices it was trained on",
        "sources",
        lambda r: by_speaker(r, "wer"),
        "python benchmarks/quality.py --sources --name sources",
    ),
    Figure(
        "full-size CosyVoice 2 flow estimator from ONNX to an engine in fp32: CPU time, memory",
        "full_size_engine",
        engine,
        "python benchmarks/cosyvoice/full_size_engine.py",
    ),
    Figure(
        "Bert-VITS2 at published size, 80 phones to 5.6 s, one thread: eager / torch stages / onnxruntime",
        "bert_vits2_inference",
        bert_vits2,
        "python benchmarks/bert_vits2/inference.py",
    ),
    Figure(
        "XY_Tokenizer at released size, one thread, onnxruntime: decode 10 s, encode 1 s",
        "codec",
        lambda r: f"{r['decode']['onnxruntime']:.1f}, {r['encode']['onnxruntime']:.2f} CPU s",
        "python benchmarks/moss_ttsd/codec.py",
    ),
)


def read(name: str, folder: Path = RESULTS) -> Record:
    """Return a committed result."""
    content: Record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return content


def table() -> str:
    """Return the Markdown table of all figures."""
    lines = ["| what | result | measured | again with |", "|---|---|---|---|"]
    for figure in FIGURES:
        record = read(figure.result)
        page = RESULTS / f"{figure.result}.html"
        link = f"benchmarks/results/{page.name if page.is_file() else f'{figure.result}.json'}"
        again = figure.command or record["command"]
        lines.append(f"| {figure.what} | {figure.read(record)} | [{record['date']}]({link}) | `{again}` |")
    return "\n".join(lines)


def outdated(folder: Path = RESULTS) -> list[str]:
    """Return the results that depend on the nano voice but were measured with another one."""
    present = voice()
    names = dict.fromkeys(figure.result for figure in FIGURES if figure.of_voice)
    return [name for name in names if read(name, folder).get("machine", {}).get("voice") != present]
