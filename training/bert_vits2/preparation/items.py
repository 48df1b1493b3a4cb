"""Preprocessing of a single item, a recording or a line, in any process.

Functions skip finished files, so that an interrupted run continues where it stopped. A problem of an item is returned
in its outcome; a problem of the machine or of an encoder is raised and ends the run.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from training.bert_vits2.data import bert_files
from training.bert_vits2.data.arrays import room
from training.bert_vits2.data.filelist import Transcript, Utterance
from training.bert_vits2.data.spectrogram_cache import make_spectrogram
from training.corpus.recordings import read_speech
from tritone.audio.level import rate_problem
from tritone.audio.resample import resample as convert
from tritone.build.files import write_atomic
from tritone.errors import ArtifactError, EnvironmentProblem, InvalidRequest, TritoneError
from tritone.families.bert_vits2.config import DataConfig
from tritone.families.bert_vits2.text.bert import BertEncoder


@dataclass(frozen=True)
class Outcome:
    """The result of an item: `made` now or present before, or left out because of a `problem`.

    `line` is the line of a cleaned filelist.
    """

    name: str
    made: bool = False
    problem: str = ""
    line: str = ""


def resample(pair: tuple[Path, Path], rate: int) -> Outcome:
    """Write a recording (first path) as 16-bit mono at `rate` (second path); one that teaches no voice is left out."""
    import soundfile

    source, target = pair
    try:
        if _up_to_date(source, target, rate):
            return Outcome(str(source))
        samples, own_rate = read_speech(source)
        wav = convert(samples, own_rate, rate)
        buffer = io.BytesIO()
        pcm = np.round(np.clip(wav, -1.0, 1.0) * 32767.0).astype(np.int16)
        soundfile.write(buffer, pcm, rate, format="WAV", subtype="PCM_16")
        with room(target):
            write_atomic(target, lambda file: file.write(buffer.getvalue()))
        return Outcome(str(source), made=True)
    except EnvironmentProblem:
        raise
    except TritoneError as error:
        target.unlink(missing_ok=True)  # of an earlier recording, or an earlier version that took this one
        return Outcome(str(source), problem=str(error))


def clean(row: Transcript, tokenizer: Path | None = None) -> Outcome:
    """Return the line of a cleaned filelist for a line of a transcript, if its recording exists and is usable.

    Args:
        tokenizer: folder of the BERT encoder whose tokens count English phones; without one, words count them.
    """
    from tritone.families.bert_vits2.text import frontend

    if not Path(row.wav).is_file():
        return Outcome(row.wav, problem="the recording is missing")
    try:
        read_speech(Path(row.wav))
    except TritoneError as error:
        return Outcome(row.wav, problem=str(error))
    try:
        text = frontend.clean(row.text, row.language, _tokenize(tokenizer) if row.language == "EN" else None)
        utterance = Utterance(row.wav, row.speaker, row.language, text.text, text.phones, text.tones, text.word2ph)
        return Outcome(row.wav, made=True, line=utterance.line())
    except InvalidRequest as error:
        return Outcome(row.wav, problem=error.sentence)
    except ValueError as error:
        return Outcome(row.wav, problem=str(error))


def bert(utterance: Utterance, folders: Mapping[str, Path], add_blank: bool = True, half: bool = False) -> Outcome:
    """Write the BERT features of a text by the encoder of its language."""
    try:
        folder = folders[utterance.language]
        return Outcome(utterance.wav, made=bert_files.make_bert(utterance, folder, add_blank, half))
    except (InvalidRequest, ArtifactError) as error:
        return Outcome(utterance.wav, problem=str(error))


def spectrogram(utterance: Utterance, data: DataConfig) -> Outcome:
    """Write the spectrogram of a recording."""
    try:
        return Outcome(utterance.wav, made=make_spectrogram(Path(utterance.wav), data))
    except ArtifactError as error:
        return Outcome(utterance.wav, problem=str(error))


@lru_cache(maxsize=1)
def _tokenize(folder: Path | None) -> Callable[[str], list[str]] | None:
    return BertEncoder(folder, "EN").tokenize if folder else None


def _up_to_date(source: Path, target: Path, rate: int) -> bool:
    """Return whether `target` is a usable mono recording at `rate`, not older than a usable `source`."""
    import soundfile

    if not target.is_file() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
        return False
    try:
        if rate_problem(soundfile.info(str(source)).samplerate):
            return False
        info = soundfile.info(str(target))
        read_speech(target)
    except (soundfile.LibsndfileError, TritoneError):
        return False
    return bool(info.samplerate == rate and info.channels == 1 and info.frames)
