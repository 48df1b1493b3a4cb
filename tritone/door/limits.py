"""The bounds that the front door keeps, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The most that one client, and all clients together, may ask of a server.

    Args:
        request_bytes: largest request; a recording of 30 s is 2 MB over gRPC and some 6 MB as JSON.
        streams: streams synthesised at a time; None for as many as the measured speed carries in real time.
        open_streams: streams open at a time, with those whose clients do not read.
        whole: whole utterances inside Triton at a time.
        waiting: whole utterances that wait for one of these places.
        waiting_seconds: longest wait for such a place.
        long_text: bytes of text from which a whole utterance is long; one long one runs at a time.
        unread_bytes: speech a stream may have ready for a client that does not read; beyond it the synthesis pauses.
        patience: seconds after which a client that reads nothing is disconnected.
        mending_seconds: longest time a request is held while its model is loaded again.
        connections: connections open at a time, for each protocol.
        idle_seconds: seconds after which a connection without a request is closed.
    """

    request_bytes: int = 16 << 20
    streams: int | None = None
    open_streams: int = 64
    whole: int = 6
    waiting: int = 32
    waiting_seconds: float = 30.0
    long_text: int = 400
    unread_bytes: int = 2 << 20
    patience: float = 60.0
    mending_seconds: float = 10.0
    connections: int = 1000
    idle_seconds: float = 75.0
