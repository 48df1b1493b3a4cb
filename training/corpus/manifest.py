"""The manifest that training reads, made from an LJSpeech-style folder: phones and lengths of every utterance."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from training.corpus.metadata import Metadata, Row, read_metadata
from training.corpus.recordings import Recordings, read_speech
from tritone.build.files import write_atomic
from tritone.errors import ConfigError, TritoneError
from tritone.text.phonemes import phonemize

LENGTHS = (0.4, 30.0)
"""Seconds of the shortest and the longest utterance that is used."""


@dataclass(frozen=True)
class Indexed:
    """The result of indexing a folder: its utterances, those left out with the reason, and its columns."""

    count: int
    left_out: tuple[str, ...]
    columns: str


@dataclass(frozen=True)
class Job:
    """One utterance to look at: its recording below `folder`, under the name that the manifest gives it."""

    folder: Path
    name: str
    path: Path
    speaker: str
    text: str


def write_manifest(folder: Path, columns: Sequence[str] | None = None, processes: int = 2) -> Indexed:
    """Write `manifest.jsonl` of the usable utterances, and the others with their reasons to `manifest.rejected`.

    Args:
        columns: the meaning of the columns of `metadata.csv`; by default what they hold decides.
        processes: that read recordings; 0 reads them in this one.

    Raises:
        ConfigError: `metadata.csv` is missing or not clear, or no utterance can be used.
    """
    metadata = read_metadata(folder / "metadata.csv", columns)
    jobs, problems = usable_rows(folder, metadata)
    lines: list[str] = []
    for entry in tqdm(_entries(jobs, processes), total=len(jobs), desc="phones", unit="sentence", mininterval=5):
        if isinstance(entry, str):
            problems.append(entry)
        else:
            lines.append(json.dumps(entry, ensure_ascii=False))
    _write(folder / "manifest.rejected", problems)
    if not lines:
        raise ConfigError(
            f"{folder}: none of {len(metadata.rows)} utterances can be used ({metadata.summary()}); the first reason: "
            f"{problems[0]}"
        )
    _write(folder / "manifest.jsonl", lines)
    return Indexed(len(lines), tuple(problems), metadata.summary())


def usable_rows(folder: Path, metadata: Metadata) -> tuple[list[Job], list[str]]:
    """Return the utterances that have a text and a recording of their own, and one line for each other row."""
    recordings, jobs, problems = Recordings(folder), list[Job](), list[str]()
    speaking, alone = "speaker" in metadata.columns, folder.resolve().name
    places: Counter[Path] = Counter()
    for row in metadata.rows:
        path, problem = recordings.find(row.id)
        if path is None or (problem := _missing(row, speaking)):
            problems.append(f"{_name(row)}: {problem}")
            continue
        place = path.resolve()
        places[place] += 1
        if places[place] == 1:
            jobs.append(Job(folder, recordings.name(path), path, row.speaker if speaking else alone, row.text))
    names = {job.path.resolve(): job.name for job in jobs}
    problems += [f"{names[place]}: has {n} lines; the first is used" for place, n in places.items() if n > 1]
    return jobs, problems


def _name(row: Row) -> str:
    return row.id or f"line {row.line}"


def _missing(row: Row, speaking: bool) -> str:
    return "has no text" if not row.text else "has no speaker" if speaking and not row.speaker else ""


def _entries(jobs: Sequence[Job], processes: int) -> Iterator[dict[str, object] | str]:
    if processes <= 0:
        yield from map(entry, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(entry, jobs, chunksize=32)


def entry(job: Job) -> dict[str, object] | str:
    """Return the manifest line of one utterance, or the reason it cannot be used."""
    try:
        samples, rate = read_speech(job.path)
        seconds = len(samples) / rate
        if not LENGTHS[0] <= seconds <= LENGTHS[1]:
            return f"{job.name}: {seconds:.2f} s is not within {LENGTHS[0]:g}..{LENGTHS[1]:g} s"
        phones = phonemize(job.text)
    except TritoneError as error:
        return f"{job.name}: {error.sentence}"
    return {
        "id": job.name,
        "speaker": job.speaker,
        "text": job.text,
        "phones": phones,
        "samples": len(samples) * 16000 // rate,
        "file": job.path.relative_to(job.folder).as_posix(),
    }


def _write(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_atomic(path, lambda file: file.write(text.encode()))
