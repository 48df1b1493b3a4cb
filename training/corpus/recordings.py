"""The recordings of a folder `wavs/`: found by the id of an utterance, read, and refused if no voice can be learnt.

An id is a path below `wavs/`, with or without the suffix: `u1`, `u1.wav`, `part/u1`, `wavs/u1.wav`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from tritone.audio.level import rate_problem, recording_problem
from tritone.audio.wav import read_samples
from tritone.errors import TritoneError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Suffixes of recordings, in any case; of several recordings of one name the first of these is used."""
SHORTEST = 0.1
"""Seconds of the shortest recording in which anything is said."""
SQUARE = 0.5
"""Share of samples at full scale, or at the recording's own ceiling, from which it is a square wave and not speech."""


class Recordings:
    """The sound files below a corpus's `wavs/`; each folder is listed once."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "wavs"
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> tuple[Path | None, str]:
        """Return the recording of an id, or None and the reason why there is none."""
        name = name.strip()
        path = PurePosixPath(name)
        if not name or "\0" in name:
            return None, "has no id" if not name else "its id has a NUL character"
        if path.is_absolute() or ".." in path.parts:
            return None, f"its id leads out of {self.root}/; an id is a name below that folder"
        if path.parts[:1] == ("wavs",) and len(path.parts) > 1:
            path = PurePosixPath(*path.parts[1:])
        stem = path.name[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else path.name
        folder = self.root / path.parent
        listed = self._list(folder)
        if stem in listed:
            exact = folder / path.name
            return (exact if path.name != stem and exact.is_file() else folder / listed[stem]), ""
        near = next((other for known, other in listed.items() if known.casefold() == stem.casefold()), "")
        hint = f"; there is {near}" if near else ""
        return None, f"no recording {folder / stem}.wav (or {', '.join(SUFFIXES[1:])}){hint}"

    def name(self, path: Path) -> str:
        """Return the id of a recording that was found: its path below `wavs/` without the suffix."""
        return path.relative_to(self.root).with_suffix("").as_posix()

    def _list(self, folder: Path) -> dict[str, str]:
        """Return the file names of a folder by their stems."""
        if folder not in self._listed:
            found: dict[str, str] = {}
            try:
                files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
            except OSError:
                files = []
            for path in sorted(files, key=lambda p: (SUFFIXES.index(p.suffix.lower()), p.name)):
                found.setdefault(path.name[: -len(path.suffix)], path.name)
            self._listed[folder] = found
        return self._listed[folder]


def read_speech(path: Path) -> tuple[np.ndarray, int]:
    """Return the mono samples of a recording for training at its own rate, and that rate; errors as `check_speech`."""
    samples, rate = read_samples(path)
    check_speech(samples, rate)
    return samples, rate


def check_speech(samples: np.ndarray, rate: int) -> None:
    """Raise TritoneError, with the problem alone, for a recording that would harm a training.

    That is one that is empty, too short, sampled too low, not finite, silent or nearly so, or clipped to a square wave.
    """
    if problem := speech_problem(samples, rate):
        raise TritoneError(problem)


def speech_problem(samples: np.ndarray, rate: int) -> str:
    """Return the problem of a recording that is useless for training, "" for any other."""
    if problem := rate_problem(rate):
        return problem
    if len(samples) and len(samples) < SHORTEST * rate:
        return f"is too short: {len(samples)} samples at {rate} Hz; speech takes {SHORTEST:g} s or more"
    if problem := recording_problem(samples, rate):
        return problem
    level = np.abs(np.clip(samples, -1, 1))
    share = float((level >= 0.999 * level.max()).mean())
    return f"is clipped to a square wave: {share:.0%} of its samples are at the limit" if share > SQUARE else ""
