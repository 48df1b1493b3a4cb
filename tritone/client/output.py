"""Checks of the file that the command line is to write, before anything is spoken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tritone.client.errors import SpeechError
from tritone.client.recording import NEEDS, PACKED

WAV = (".wav", ".wave", "")
"""Ends of names that are written as wav files."""


def check_output(path: Path) -> None:
    """Raise SpeechError unless a sound can be written to that name; `-` is standard output."""
    if str(path) == "-":
        if sys.stdout.isatty():
            raise SpeechError(
                "-o - writes a sound to standard output, which is a terminal; pipe it, or give -o out.wav"
            )
        return
    if path.is_dir():
        raise SpeechError(f"cannot write {path}: it is a folder; give a file, such as -o {path / 'out.wav'}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise SpeechError(f"cannot write {path}: the folder {folder} does not exist")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise SpeechError(f"cannot write {path}: no permission")
    suffix = path.suffix.lower()
    if suffix in PACKED:
        try:
            import soundfile

            formats = soundfile.available_formats()
        except ImportError:
            raise SpeechError(f"cannot write {path}: {suffix[1:]} files need {NEEDS}, or give -o out.wav") from None
        if PACKED[suffix] not in formats:
            raise SpeechError(
                f"cannot write {path}: the installed soundfile does not write {suffix[1:]}; give -o out.wav"
            )
    elif suffix not in WAV:
        known = ", ".join((".wav", *PACKED))
        raise SpeechError(f"cannot write {path}: {suffix} is not a sound that is written here; these are: {known}")
