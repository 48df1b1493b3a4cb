"""Voices of recent recordings, kept by what the recording sounds like, so that no caller gets another's voice."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tritone.families.cosyvoice.speakers import Voice

CAPACITY = 64
"""Voices kept; one of the longest recordings takes about half a megabyte."""


class VoiceCache:
    """The voices used last, up to `capacity`; for any number of threads.

    A voice is found by its samples, their rate and the transcript together. Transcripts alone are often the same for
    different voices, and a name or path may come to stand for another recording.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"a voice cache holds at least one voice, got capacity {capacity}")
        self.capacity = capacity
        self._voices: OrderedDict[bytes, Future[Voice]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._voices)

    def get(self, wav: np.ndarray, rate: int, transcript: str, make: Callable[[], Voice]) -> Voice:
        """The voice of the recording, made at its first use; who asks meanwhile waits for the same one.

        An error of `make` is raised to all who wait, and the next request tries again.
        """
        key = fingerprint(wav, rate, transcript)
        with self._lock:
            voice = self._voices.get(key)
            mine = voice is None
            if voice is None:
                voice = self._voices[key] = Future()
                while len(self._voices) > self.capacity:
                    self._voices.popitem(last=False)
            self._voices.move_to_end(key)
        if mine:
            try:
                voice.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._voices.get(key) is voice:
                        del self._voices[key]
                voice.set_exception(error)
        return voice.result()


def fingerprint(wav: np.ndarray, rate: int, transcript: str) -> bytes:
    """A hash of the samples, their rate and the transcript; no two recordings share one."""
    samples = np.ascontiguousarray(wav, np.float32)
    digest = hashlib.sha256(f"{rate} {samples.size} ".encode())
    digest.update(samples.data)
    digest.update(transcript.encode("utf-8", "surrogatepass"))
    return digest.digest()
