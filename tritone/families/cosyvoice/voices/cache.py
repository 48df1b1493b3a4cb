"""Values computed for recent voices, kept by content, so that no caller receives those of another voice."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from tritone.families.cosyvoice.voices.voice import Voice

CAPACITY = 64
"""Voices kept; one of the longest recordings takes about half a megabyte."""

T = TypeVar("T")


class Recent(Generic[T]):
    """The values used last, up to `capacity` of them and `limit` bytes together; for any number of threads.

    Args:
        size: bytes of one value; one that alone exceeds the limit is made each time and not kept.
    """

    def __init__(self, capacity: int, limit: float = float("inf"), size: Callable[[T], int] = lambda _: 0) -> None:
        self.capacity, self.limit, self._size = capacity, limit, size
        self._kept: OrderedDict[bytes, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def total_bytes(self) -> int:
        """The size of all values together; a value still being made has none."""
        with self._lock:
            return sum(self._sizes().values())

    def get(self, key: bytes, make: Callable[[], T]) -> T:
        """Return the value of that key, made at its first use; concurrent callers wait for the same one.

        An error of `make` is raised to its caller alone. The callers that waited then try themselves, because the
        first attempt may have ended with a cancelled request.
        """
        while True:
            with self._lock:
                future = self._kept.get(key)
                mine = future is None
                if future is None:
                    future = self._kept[key] = Future()
                self._kept.move_to_end(key)
                self._shrink()
            if mine:
                return self._made(key, future, make)
            if future.exception() is None:
                return future.result()

    def _made(self, key: bytes, future: Future[T], make: Callable[[], T]) -> T:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                if self._kept.get(key) is future:
                    del self._kept[key]
            future.set_exception(error)
            raise
        future.set_result(value)
        with self._lock:
            if self._size(value) > self.limit and self._kept.get(key) is future:
                del self._kept[key]
            self._shrink()
        return value

    def _shrink(self) -> None:
        """Drop the least recently used values until both bounds hold; a value still being made has no size."""
        sizes = self._sizes()
        total = sum(sizes.values())
        for key, size in sizes.items():
            if len(self._kept) <= self.capacity and total <= self.limit:
                return
            if len(self._kept) > self.capacity or size:
                del self._kept[key]
                total -= size

    def _sizes(self) -> dict[bytes, int]:
        return {
            key: self._size(future.result()) if future.done() and not future.exception() else 0
            for key, future in self._kept.items()
        }


class VoiceCache:
    """The voices used last, up to `capacity`; for any number of threads.

    A voice is found by its samples, their rate and the transcript together. Transcripts alone are often the same for
    different voices, and a name or path may come to stand for another recording.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"a voice cache holds at least one voice, got capacity {capacity}")
        self._voices: Recent[Voice] = Recent(capacity)

    def __len__(self) -> int:
        return len(self._voices)

    def get(self, wav: np.ndarray, rate: int, transcript: str, make: Callable[[], Voice]) -> Voice:
        """Return the voice of the recording, made at its first use, as `Recent.get` does."""
        return self._voices.get(fingerprint(wav, rate, transcript), make)


def fingerprint(wav: np.ndarray, rate: int, transcript: str) -> bytes:
    """Return a hash of the samples, their rate and the transcript; no two recordings share one."""
    return content_hash(f"{rate}", np.asarray(wav, np.float32), transcript)


def content_hash(*parts: str | np.ndarray) -> bytes:
    """Return a hash of texts and arrays in order, with the arrays' dtypes and shapes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            data, head = part.encode("utf-8", "surrogatepass"), "text"
        else:
            data, head = np.ascontiguousarray(part).tobytes(), f"{part.dtype} {part.shape}"
        digest.update(f"{head} {len(data)} ".encode())
        digest.update(data)
    return digest.digest()
