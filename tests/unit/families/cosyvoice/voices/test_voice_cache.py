"""Voices of recordings are found again by content, never by transcript alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tritone.families.cosyvoice.voices.cache import VoiceCache, fingerprint
from tritone.families.cosyvoice.voices.voice import Voice


def wav(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(800).astype(np.float32)


def voice(number: int) -> Voice:
    return Voice(str(number), np.full(192, number, np.float32))


def fail() -> Voice:
    raise AssertionError("made twice")


def test_a_recording_is_heard_once() -> None:
    cache = VoiceCache()
    first = cache.get(wav(1), 16000, "hello", lambda: voice(1))
    assert cache.get(wav(1).copy(), 16000, "hello", fail) is first


def test_two_voices_with_the_same_transcript_never_mix() -> None:
    cache = VoiceCache(capacity=3)

    def ask(index: int) -> bool:
        number = index % 5
        found = cache.get(wav(number), 16000, "the same words", lambda: voice(number))
        return found.name == str(number) and bool((found.embedding == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))
    assert len(cache) <= 3


def test_everything_that_makes_a_voice_is_in_its_key() -> None:
    base = fingerprint(wav(1), 16000, "a")
    changed = wav(1)
    changed[400] += 1e-6
    others = [
        fingerprint(changed, 16000, "a"),
        fingerprint(wav(1), 24000, "a"),
        fingerprint(wav(1), 16000, "b"),
        fingerprint(wav(1)[:-1], 16000, "a"),
        fingerprint(np.concatenate([wav(1), np.zeros(1, np.float32)]), 16000, "a"),
    ]
    assert base not in others and len(set(others)) == len(others)
    assert fingerprint(wav(1)[None].repeat(2, axis=0)[0], 16000, "a") == base


def test_the_least_recently_used_leaves() -> None:
    cache = VoiceCache(capacity=2)
    for number in (1, 2):
        cache.get(wav(number), 16000, "", lambda n=number: voice(n))
    cache.get(wav(1), 16000, "", fail)
    cache.get(wav(3), 16000, "", lambda: voice(3))
    cache.get(wav(1), 16000, "", fail)
    assert cache.get(wav(2), 16000, "", lambda: voice(22)).name == "22" and len(cache) == 2
    with pytest.raises(ValueError, match="at least one voice, got capacity 0"):
        VoiceCache(0)


def test_who_asks_meanwhile_waits_for_the_same_voice() -> None:
    cache, made = VoiceCache(), []
    started = threading.Event()

    def make() -> Voice:
        started.set()
        time.sleep(0.1)
        made.append(1)
        return voice(1)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, wav(1), 16000, "", make) for _ in range(4)]
        assert started.wait(5) and len({id(w.result(5)) for w in waiting}) == 1
    assert made == [1]


def test_an_error_is_not_remembered() -> None:
    cache = VoiceCache()

    def broken() -> Voice:
        raise RuntimeError("no sound")

    with pytest.raises(RuntimeError, match="no sound"):
        cache.get(wav(1), 16000, "", broken)
    assert len(cache) == 0 and cache.get(wav(1), 16000, "", lambda: voice(1)).name == "1"
