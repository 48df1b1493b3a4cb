"""The manifest that training reads, made from an LJSpeech-style folder: phones and lengths of every utterance."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import soundfile
from tqdm import tqdm

from tritone.audio.wav import check_header
from tritone.checkpoint.lines import text_lines
from tritone.errors import ConfigError, TritoneError
from tritone.text.phonemes import phonemize

METADATA_BYTES = 1 << 30
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def read_metadata(folder: Path) -> list[tuple[str, str, str]]:
    """Return (id, speaker, text) of `metadata.csv`: `id|text`, then `|speaker`, `|normalised` or `|normalised|speaker`.

    The third of three columns names speakers when no line has a space in it, and is normalised text otherwise. A folder
    without speakers has one speaker, named after the folder.
    """
    path = folder / "metadata.csv"
    if not path.exists():
        raise ConfigError(
            f"{path} does not exist; it should have lines `id|text` or `id|text|speaker` for {folder}/wavs/ID.wav."
        )
    rows = [line.split("|") for _, line in text_lines(path, METADATA_BYTES)]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not widths <= {2, 3, 4}:
        raise ConfigError(
            f"{path}: every line needs the same 2 to 4 columns separated by '|', found {sorted(widths)} columns."
        )
    name = folder.resolve().name
    if widths == {2}:
        return [(row[0], name, row[1]) for row in rows]
    if widths == {4}:
        return [(row[0], row[3], row[2]) for row in rows]
    if all(" " not in row[2].strip() for row in rows):
        return [(row[0], row[2].strip(), row[1]) for row in rows]
    return [(row[0], name, row[2]) for row in rows]


def _entry(job: tuple[Path, str, str, str]) -> dict[str, object] | str:
    """Return the manifest line of one utterance, or the reason it cannot be used."""
    folder, name, speaker, text = job
    stem = folder / "wavs" / name
    path = next((p for p in (Path(f"{stem}{suffix}") for suffix in SUFFIXES) if p.exists()), None)
    if path is None:
        return f"{name}: no recording {stem}.wav (or {', '.join(SUFFIXES[1:])})"
    try:
        info = soundfile.info(str(path))
        check_header(info.samplerate, info.channels, str(path))
        phones = phonemize(text)
    except (TritoneError, soundfile.LibsndfileError) as error:
        return f"{name}: {error}"
    samples = info.frames * 16000 // info.samplerate
    return {
        "id": name,
        "speaker": speaker,
        "text": text,
        "phones": phones,
        "samples": samples,
        "file": f"wavs/{path.name}",
    }


def write_manifest(
    folder: Path, shortest: float = 0.4, longest: float = 30.0, processes: int = 2
) -> tuple[int, list[str]]:
    """Write `manifest.jsonl`; return its number of utterances and one line per utterance left out, with the reason."""
    jobs = [(folder, *row) for row in read_metadata(folder)]
    lines, problems = [], []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        entries = pool.imap(_entry, jobs, chunksize=32)
        for entry in tqdm(entries, total=len(jobs), desc="phones", unit="sentence", mininterval=5):
            if isinstance(entry, str):
                problems.append(entry)
            elif not shortest <= int(str(entry["samples"])) / 16000 <= longest:
                problems.append(
                    f"{entry['id']}: {int(str(entry['samples'])) / 16000:.2f} s is not within {shortest}..{longest} s"
                )
            else:
                lines.append(json.dumps(entry, ensure_ascii=False))
    if not lines:
        raise ConfigError(f"{folder}: none of {len(jobs)} utterances can be used; the first reason: {problems[0]}")
    part = folder / "manifest.jsonl.part"
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.rename(folder / "manifest.jsonl")
    return len(lines), problems
