"""Texts that arrive in several requests of one gRPC stream, identified by Triton's sequence id.

The first request (`sequence_start`) brings all inputs and is answered with the speech; each later one brings the next
piece as `target_text` and is answered at once without audio; the last has `sequence_end`. No sequence batcher is
needed: it would refuse requests outside a sequence, and Triton passes the requests of a stream in order anyway.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from tritone.errors import InvalidRequest, TritoneError
from tritone.server.bls import Busy
from tritone.stage import Arrays
from tritone.text.split import MAX_CHARACTERS

START, END = 1, 2
"""Bits of a request's flags, as Triton numbers them."""
OPEN, PATIENCE = 8, 30.0
TEXT = "target_text"
POLL = 0.1


class ArrivingText:
    """The text of one sequence: the server adds pieces with `put`, the thread that speaks reads them from `pieces`.

    Args:
        patience: seconds to wait for a further piece before the text is abandoned.
    """

    def __init__(self, key: int | str, patience: float) -> None:
        self.key, self.ended = key, False
        self._patience, self._characters = patience, 0
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def put(self, piece: str, last: bool) -> None:
        """Add a piece; raise InvalidRequest, and change nothing, if the text is too long or was complete."""
        if self.ended:
            raise InvalidRequest("sequence_id", f"{self.key} has had its last piece; send more with another id")
        if self._characters + len(piece) > MAX_CHARACTERS:
            raise InvalidRequest(
                TEXT, f"{self._characters} + {len(piece)} characters; the limit is {MAX_CHARACTERS}; split the text"
            )
        self._characters += len(piece)
        if piece:
            self._waiting.put(piece)
        if last:
            self.ended = True
            self._waiting.put(None)

    def pieces(self, cancelled: Callable[[], bool]) -> Iterator[str]:
        """Yield the pieces in order, waiting for each, until `cancelled()`; after a long wait, raise InvalidRequest."""
        since = time.monotonic()
        while not cancelled():
            try:
                piece = self._waiting.get(timeout=POLL)
            except queue.Empty:
                if time.monotonic() - since > self._patience:
                    raise InvalidRequest(
                        TEXT, f"no piece came for {self._patience:g} s and no sequence_end; the sequence is abandoned"
                    ) from None
                continue
            if piece is None:
                return
            yield piece
            since = time.monotonic()


class ArrivingTexts:
    """The texts being spoken while they arrive, by sequence id.

    Args:
        values: parameters of the model's config: `sequences`, the limit of texts at the same time, and
            `sequence_patience`, the seconds each waits for its next piece.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._limit = int(values.get("sequences", OPEN))
        self._patience = float(values.get("sequence_patience", PATIENCE))
        self._open: dict[int | str, ArrivingText] = {}
        self._lock = threading.Lock()

    def receive(
        self, key: int | str, flags: int, request: Arrays
    ) -> tuple[bool, ArrivingText | None, TritoneError | None]:
        """Return whether a request begins an utterance, its text if that arrives in pieces, and why it is refused.

        A request is refused when its sequence is not open, when a later piece brings more than text, or when a limit
        is exceeded.

        Args:
            key: Triton's sequence id; 0 or "" for a request that does not belong to a sequence.
        """
        if not key:
            return True, None, None
        try:
            text = self._receive(key, flags, request)
        except TritoneError as error:
            return False, None, error
        return text is not None, text, None

    def _receive(self, key: int | str, flags: int, request: Arrays) -> ArrivingText | None:
        """Return the text that the request begins, or None after adding its piece to a text that is open."""
        piece = read_piece(request)
        with self._lock:
            text = self._open.get(key)
            if not flags & START:
                if text is None:
                    raise InvalidRequest(
                        "sequence_id", f"{key} is not open: it never began or has ended; begin with sequence_start"
                    )
                extra = sorted(set(request) - {TEXT})
                if extra:
                    raise InvalidRequest(extra[0], "came with a later piece; send it with the first, sequence_start")
                text.put(piece, bool(flags & END))
                return None
            if text is not None:
                raise InvalidRequest("sequence_id", f"{key} is already open; begin another text with another id")
            if len(self._open) >= self._limit:
                raise Busy(f"BUSY: {self._limit} texts are arriving already, which is the limit; try again later")
            text = ArrivingText(key, self._patience)
            text.put(piece, bool(flags & END))
            self._open[key] = text
            return text

    def close(self, text: ArrivingText | None) -> None:
        """Forget a text that is finished or abandoned; further pieces of it are refused."""
        if text is not None:
            with self._lock:
                self._open.pop(text.key, None)


def read_piece(request: Arrays) -> str:
    """Return the request's text unchanged, or "" without one."""
    if TEXT not in request or request[TEXT].size == 0:
        return ""
    value = request[TEXT].reshape(-1)[0]
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise InvalidRequest(TEXT, f"is not UTF-8 (byte {error.start}); cut the text between characters") from None
