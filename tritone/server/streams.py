"""The streams of one process: each request is answered chunk by chunk from a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from tritone.errors import Cancelled
from tritone.server.flags import Flags
from tritone.server.models import StreamModel
from tritone.server.pieces import ArrivingText, ArrivingTexts
from tritone.stage import Arrays

PAUSE = 0.02
"""Seconds between two looks at whether the client of a paused stream reads again."""
Send = Callable[[Any, np.ndarray | Exception | None, bool], None]
"""`send(sender, chunk or error or None, final)` sends one response of a request."""


class Streams:
    """The streams that are open, and the texts that arrive in pieces.

    Args:
        values: parameters of the model's config: `streams`, the most at a time, and those of arriving texts.
        send: sends a response to Triton.
    """

    def __init__(self, model: StreamModel, values: Mapping[str, str], flags: Flags, send: Send) -> None:
        self._model, self._flags, self._send = model, flags, send
        self._pool, self.texts = ThreadPoolExecutor(int(values.get("streams", "1"))), ArrivingTexts(values)

    def begin(self, request: Any, arrays: Arrays) -> None:
        """Answer a request of Triton's from a thread, or at once if it only brings a piece of text."""
        sender = request.get_response_sender()
        begins, text, error = self.texts.receive(request.correlation_id(), request.flags(), arrays)
        if begins:
            self._pool.submit(self.run, sender, arrays, text, request.request_id())
        else:
            self._send(sender, error, True)

    def run(self, sender: Any, arrays: Arrays, text: ArrivingText | None, request_id: str) -> None:
        """Send each chunk when it is ready; stop the work as soon as the client has gone, pause if it does not read."""
        # Behind the front door a file tells of a cancellation; asking Triton takes a hundred times as long.
        known = self._flags.known(request_id)
        cancelled = partial(self._flags.cancelled, request_id) if known else sender.is_cancelled
        error: Exception | None = None
        pieces = text.pieces(cancelled) if text else None
        try:
            for chunk in self._model.stream(arrays, cancelled, pieces):
                self._send(sender, chunk, False)
                while self._flags.paused(request_id) and not cancelled():
                    time.sleep(PAUSE)
        except Exception as caught:
            error = caught
        error = error or (Cancelled("cancelled") if cancelled() else None)
        self.texts.close(None if error else text)  # a failure is sent before later pieces are refused
        self._send(sender, error, True)
        self.texts.close(text)

    def close(self) -> None:
        """Let running streams end before the process does."""
        self._pool.shutdown(cancel_futures=True)
