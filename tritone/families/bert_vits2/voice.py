"""The part of a checkpoint that reads requests: its speakers, its configuration, and its BERT encoders if any.

A model without a table of speakers takes its voice from a recording in the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tritone.audio.mel import stft
from tritone.audio.reference import check_rate, check_reference
from tritone.audio.resample import resample
from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.config import BERT_CHANNELS, BertVits2Config, DataConfig
from tritone.families.bert_vits2.emotion_input import read_emotion
from tritone.families.bert_vits2.text.bert import BertFeatures
from tritone.families.bert_vits2.text.filler import BY_VERSION
from tritone.request.fields import read_number, read_text, sound_length
from tritone.stage import Arrays

LISTED = 20
"""The number of speakers that an error lists."""
REFERENCE_RATES = (16000, 192000)
"""The usual and the highest rate of a recording; `reference_rate` tells another than the usual."""
FLOOR = 1e-6
"""Added to the power of a spectrogram before the square root."""


class Voice:
    """Speakers, configuration and BERT features of one checkpoint.

    Args:
        folders: BERT encoders by language. A text in a language without an encoder gets filler in all three streams,
            the same filler that the checkpoint was trained with in the streams of other languages:
            `train.bert_filler`, or that of its version.
        emotion: the embedding of requests without an emotion, for a version that takes one.
    """

    def __init__(self, config: BertVits2Config, folders: Mapping[str, Path], emotion: np.ndarray | None = None) -> None:
        self.config, self.own_emotion = config, emotion
        self.heard = config.data.n_speakers == 0
        names = config.data.spk2id or {str(row): row for row in range(config.data.n_speakers)}
        names = {} if self.heard else names
        self.speakers = dict(sorted(names.items(), key=lambda item: item[1]))
        self.bert = BertFeatures(folders, no_bert=True, channels=BERT_CHANNELS)
        self.filler = str(config.train.get("bert_filler", "")) or BY_VERSION[config.version]

    def sid(self, name: str) -> int:
        """Return the id of a speaker, by default the first; raise InvalidRequest for an unknown name."""
        if not name:
            return next(iter(self.speakers.values()))
        if name not in self.speakers:
            known = list(self.speakers)
            more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
            raise InvalidRequest(
                "speaker", f"unknown speaker {name!r}; the speakers are {', '.join(known[:LISTED])}{more}"
            )
        return self.speakers[name]

    def speaker(self, request: Arrays) -> int | np.ndarray:
        """Return the id of the speaker, or the spectrogram `[1, bins, frames]` of the recording of one.

        Raises InvalidRequest for an unknown name, and for a recording without a voice.
        """
        if not self.heard:
            for name in ("reference_wav", "reference_wav_len", "reference_rate"):
                if name in request:
                    raise InvalidRequest(name, "has no effect; this voice has a table of speakers; send speaker")
            return self.sid(read_text(request, "speaker"))
        if read_text(request, "speaker"):
            raise InvalidRequest("speaker", "this voice has no table of speakers; send reference_wav instead")
        return heard_speaker(request, self.config.data)

    def emotion(self, request: Arrays) -> Arrays:
        """Return the text encoder's emotion inputs; InvalidRequest for what the voice cannot take."""
        return read_emotion(request, self.config, self.own_emotion)


def heard_speaker(request: Arrays, data: DataConfig) -> np.ndarray:
    """Return the spectrogram `[1, bins, frames]` of a request's recording; InvalidRequest if it carries no voice."""
    usual, highest = REFERENCE_RATES
    rate = int(read_number(request, "reference_rate", usual))
    check_rate(rate)
    if rate > highest:
        raise InvalidRequest("reference_rate", f"is {rate} Hz; the highest rate is {highest} Hz")
    if "reference_wav" not in request:
        raise InvalidRequest(
            "reference_wav",
            f"is missing; this voice takes its speaker from a recording: float32 samples at {usual} Hz or at "
            f"reference_rate",
        )
    wav, length = request["reference_wav"].reshape(-1), sound_length(request, "reference_wav")
    samples = check_reference(wav, length, rate, "reference_wav")
    return linear_spectrogram(resample(samples, rate, data.sampling_rate), data)[None]


def linear_spectrogram(wav: np.ndarray, data: DataConfig) -> np.ndarray:
    """Return the magnitudes of samples, float32 `[bins, samples // hop]`, as in training."""
    padding = (data.filter_length - data.hop_length) // 2
    padded = np.pad(wav.astype(np.float64), padding, mode="reflect")
    spectrum = stft(padded, data.filter_length, data.hop_length, data.win_length)
    magnitude: np.ndarray = np.sqrt(spectrum.real**2 + spectrum.imag**2 + FLOOR).astype(np.float32)
    return magnitude
