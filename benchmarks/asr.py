"""Word error rate of English speech by a small recogniser, pocketsphinx.

pocketsphinx is weak by today's standards, so compare a word error rate with the source voice's. Its figures repeat
exactly, because each recording is decoded at once with its own cepstral means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tritone.audio.resample import resample
from tritone.checkpoint.lines import text_lines
from tritone.errors import InvalidRequest

RATE = 16000
PEAK = 0.7
"""Recordings are levelled to this peak, so that a quiet voice is not scored on its quietness."""
HARVARD = Path(__file__).with_name("harvard.txt")


def sentences(path: Path = HARVARD) -> list[str]:
    """Return the sentences of a text file, one per line; the default is 30 of the IEEE Harvard sentences (1969)."""
    return [line.strip() for _, line in text_lines(path)]


def transcribe(wav: np.ndarray, rate: int) -> str:
    """Return the recognised words in lower case; "" if none.

    Args:
        wav: `[samples]` float at `rate` Hz, one utterance.
    """
    if wav.ndim != 1 or wav.size == 0 or not np.isfinite(wav).all():
        raise InvalidRequest("wav", f"need finite samples [samples], got shape {list(wav.shape)}")
    wav = resample(wav, rate, RATE)
    wav = wav * (PEAK / max(float(np.abs(wav).max()), 1e-6))
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw((wav * 32767).astype("<i2").tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr if found else ""


def word_error_rate(references: Sequence[str], heard: Sequence[str]) -> float:
    """Return the substituted, missing and extra words over all words of the references; case and punctuation do not
    count.
    """
    import jiwer

    return float(jiwer.wer([plain(text) for text in references], [plain(text) for text in heard]))


def plain(text: str) -> str:
    """Return lower-case words separated by single spaces; apostrophes inside words are kept."""
    return " ".join(word.strip("'") for word in re.sub(r"[^a-z0-9']+", " ", text.lower()).split() if word.strip("'"))


@cache
def _decoder() -> Any:
    from pocketsphinx import Decoder

    return Decoder(samprate=RATE, loglevel="FATAL")
