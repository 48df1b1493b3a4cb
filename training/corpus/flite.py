"""A corpus spoken by Debian's `flite`, whose voices are statistical models of real speakers."""

from __future__ import annotations

import csv
import multiprocessing
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from tritone.audio.wav import read_wav, write_wav
from tritone.errors import ConfigError, EnvironmentProblem

RATE = 16000
LOUDNESS = 0.08
"""Root mean square of the spoken parts after levelling; the voices themselves differ by several decibels."""


def check_voices(voices: list[str]) -> None:
    """Raise when flite or one of the voices is missing."""
    if shutil.which("flite") is None:
        raise EnvironmentProblem("flite is not installed; it speaks the training corpus. Run: apt-get install flite")
    listed = subprocess.run(["flite", "-lv"], capture_output=True, text=True, check=True).stdout
    available = listed.split(":", 1)[1].split()
    unknown = [voice for voice in voices if voice not in available]
    if unknown:
        raise ConfigError(f"flite has no voice {', '.join(unknown)}; it has {', '.join(sorted(available))}.")


def synthesize(text: str, voice: str) -> np.ndarray:
    """Return flite's own speech, float32 `[samples]` at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", file.name], check=True, stdout=subprocess.DEVNULL)
        return read_wav(file.name, RATE)


def tidy(wav: np.ndarray, keep: float = 0.08) -> np.ndarray:
    """Return the utterance with at most `keep` seconds of silence at each end and normalised loudness."""
    hop = RATE // 100
    frames = wav[: len(wav) // hop * hop].reshape(-1, hop)
    level = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(level > 0.02 * level.max())
    start, end = loud[0] * hop - int(keep * RATE), (loud[-1] + 1) * hop + int(keep * RATE)
    gain = LOUDNESS / np.sqrt((level[level > 0.1 * level.max()] ** 2).mean())
    wav = wav[max(0, start) : end]
    return wav * min(gain, 0.97 / np.abs(wav).max())


def _speak(job: tuple[str, str, Path]) -> None:
    text, voice, path = job
    if not path.exists():
        part = path.with_suffix(".part")
        write_wav(part, tidy(synthesize(text, voice)), RATE)
        part.rename(path)


def make_corpus(pairs: list[tuple[str, str]], folder: Path, processes: int = 2) -> None:
    """Speak (text, voice) pairs into `folder`: wavs/ID.wav and metadata.csv with `id|text|voice`.

    Finished recordings are kept, so an interrupted run continues where it stopped.
    """
    check_voices(sorted({voice for _, voice in pairs}))
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    rows = [(f"{voice}_{i:05d}", text, voice) for i, (text, voice) in enumerate(pairs)]
    jobs = [(text, voice, folder / "wavs" / f"{name}.wav") for name, text, voice in rows]
    with multiprocessing.Pool(processes) as pool:
        for _ in tqdm(
            pool.imap(_speak, jobs, chunksize=8), total=len(jobs), desc="speaking", unit="sentence", mininterval=5
        ):
            pass
    part = folder / "metadata.csv.part"
    with open(part, "w", newline="") as file:
        csv.writer(file, delimiter="|", quoting=csv.QUOTE_NONE, lineterminator="\n").writerows(rows)
    part.rename(folder / "metadata.csv")


def seconds(path: Path) -> float:
    """Return the length of a sound file without reading its samples."""
    info = soundfile.info(str(path))
    return float(info.frames / info.samplerate)
