"""Playing chunks as they arrive, with a program that is installed."""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
import threading

import numpy as np

from tritone.client.errors import SpeechError
from tritone.client.recording import pcm16

PLAYERS = {
    "ffplay": "ffplay -loglevel error -nodisp -autoexit -f s16le -ar {rate} -i -",
    "aplay": "aplay -q -t raw -f S16_LE -c 1 -r {rate}",
    "paplay": "paplay --raw --format=s16le --channels=1 --rate={rate}",
}


class Player:
    """Plays chunks in the background, so that playing does not delay receiving.

    Args:
        name: a key of PLAYERS. rate: samples per second.
    """

    def __init__(self, name: str, rate: int) -> None:
        self._process = subprocess.Popen(PLAYERS[name].format(rate=rate).split(), stdin=subprocess.PIPE)
        self._chunks: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def play(self, chunk: np.ndarray) -> None:
        """Append float samples `[samples]`."""
        self._chunks.put(pcm16(chunk))

    def finish(self) -> None:
        """Return when everything has been played."""
        self._chunks.put(b"")
        self._thread.join()
        self._process.wait()

    def _feed(self) -> None:
        assert self._process.stdin is not None
        try:
            while data := self._chunks.get():
                self._process.stdin.write(data)
                self._process.stdin.flush()
            self._process.stdin.close()
        except BrokenPipeError:
            print("the player closed early", file=sys.stderr)


def find_player() -> str:
    """Return the first installed player."""
    for name in PLAYERS:
        if shutil.which(name):
            return name
    raise SpeechError(f"--play needs one of {', '.join(PLAYERS)}, none is installed; write a file with -o instead")
