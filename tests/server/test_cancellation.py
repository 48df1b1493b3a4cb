"""A client that disconnects stops the work it asked for."""

from __future__ import annotations

import time

from server.conftest import SENTENCE, lm_tokens

from tritone.client.speech_client import SpeechClient
from tritone.supervisor.service import Service

STREAM = "cosyvoice2_stream"
TIMES = 30
LONG = " ".join([SENTENCE] * TIMES)


def settled(server: Service, quiet: float = 1.0, timeout: float = 60.0) -> int:
    """Return the token count once it has not moved for `quiet` seconds."""
    deadline, count, since = time.monotonic() + timeout, lm_tokens(server, STREAM), time.monotonic()
    while time.monotonic() - since < quiet:
        assert time.monotonic() < deadline, "the language model keeps decoding after the client has gone"
        time.sleep(0.1)
        now = lm_tokens(server, STREAM)
        if now != count:
            count, since = now, time.monotonic()
    return count


def test_cancelling_a_stream_stops_the_language_model(server: Service, speech: SpeechClient, speaker: str) -> None:
    before = lm_tokens(server, STREAM)
    samples = sum(chunk.size for chunk in speech.stream(SENTENCE, speaker=speaker, seed=1))
    full = TIMES * (lm_tokens(server, STREAM) - before)
    assert samples > 1000 and full > 300

    before = lm_tokens(server, STREAM)
    stream = speech.stream(LONG, speaker=speaker, seed=1)
    next(stream)
    stream.close()
    cancelled = settled(server) - before
    assert 0 < cancelled < full / 2, f"{cancelled} of about {full} tokens were decoded"


def test_server_goes_on_after_a_cancellation(speech: SpeechClient, speaker: str) -> None:
    stream = speech.stream(LONG, speaker=speaker)
    next(stream)
    stream.close()
    assert sum(chunk.size for chunk in speech.stream("Hello.", speaker=speaker)) > 1000
