"""Measures how fast a server speaks, before clients come: a few streams at once, straight to Triton."""

from __future__ import annotations

import os
import threading
import time

from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient

TEXT = "Ready. Now we measure how fast this machine speaks when several people ask at once."
STREAMS = 2
SECONDS = 6.0
"""Longest time for the measurement; what has been spoken until then counts."""


def measure(address: str, family: str) -> float:
    """Return the seconds of speech a second that the server at this gRPC address makes.

    A voice that cannot speak the text counts with two seconds a second for each core, until clients come.
    """
    samples = [0] * STREAMS
    rates: list[int] = []
    began = time.monotonic()

    def speak(place: int) -> None:
        try:
            with SpeechClient(address, model=family, timeout=SECONDS) as client:
                rates.append(client.sample_rate)
                for chunk in client.stream(TEXT):
                    samples[place] += len(chunk)
                    if time.monotonic() - began > SECONDS:
                        return
        except SpeechError:
            return

    threads = [threading.Thread(target=speak, args=(place,), daemon=True) for place in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECONDS)
    if not (rates and sum(samples)):
        return 2.0 * (os.cpu_count() or 1)
    return sum(samples) / rates[0] / (time.monotonic() - began)
