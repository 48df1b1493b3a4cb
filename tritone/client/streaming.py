"""One gRPC stream: a thread sends requests, chunks of speech are received."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from tritone.client.errors import RequestFailed
from tritone.client.request import text_array

LATER = "later"
"""The id of requests that only bring a further piece of text; the speech is the answer to the first."""
Arrays = dict[str, np.ndarray]
Send = Callable[..., None]
Ask = Callable[[Send, Callable[[], bool]], None]
"""`ask(send, stopped)` sends requests by `send(arrays, **options of the request)`, until `stopped()`."""


def in_pieces(first: Arrays, pieces: Iterable[str]) -> Ask:
    """Return the sender of a text that is still arriving: the first request has all inputs, the others only text.

    The requests form a Triton sequence, which an empty last piece ends.
    """
    sequence = secrets.randbits(63) | 1

    def ask(send: Send, stopped: Callable[[], bool]) -> None:
        def send_piece(arrays: Arrays, piece: str, start: bool, end: bool) -> None:
            text = {"target_text": text_array("target_text", piece)}
            options = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
            send(arrays | text, request_id="" if start else LATER, **options)

        inputs, start = first, True
        for piece in pieces:
            if stopped():
                return
            send_piece(inputs, piece, start, end=False)
            inputs, start = {}, False
        send_piece(inputs, "", start, end=True)

    return ask


def chunks(
    connection: Any,
    model: str,
    ask: Ask,
    inputs: Callable[[Arrays], list[Any]],
    explain: Callable[[Exception], Exception],
    timeout: float,
) -> Iterator[np.ndarray]:
    """Yield the speech for the requests that `ask` sends, float32 `[samples]` each; closing early cancels the work.

    Args:
        connection: carries one stream at a time, and is closed at the end.
        inputs: converts arrays to tensors. explain: converts the server's errors.
        timeout: longest wait in seconds between two responses.
    """
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    stopped = threading.Event()

    def send(arrays: Arrays, **options: Any) -> None:
        connection.async_stream_infer(model, inputs(arrays), enable_empty_final_response=True, **options)

    def asking() -> None:
        try:
            ask(send, stopped.is_set)
        except Exception as error:
            answers.put((None, error))

    finished = False
    try:
        connection.start_stream(lambda result, error: answers.put((result, error)))
        threading.Thread(target=asking, daemon=True).start()
        while not finished:
            try:
                result, error = answers.get(timeout=timeout)
            except queue.Empty:
                raise RequestFailed(f"no audio from {model} for {timeout:g} s; cancelled") from None
            if error is not None:
                raise explain(error) if isinstance(error, InferenceServerException) else error
            response = result.get_response()
            finished = response.id != LATER and response.parameters["triton_final_response"].bool_param
            chunk = samples(result)
            if chunk.size:
                yield chunk
    finally:
        stopped.set()
        stop(connection, finished, timeout)
        connection.close()


def stop(connection: Any, finished: bool, timeout: float) -> None:
    """Close the stream: cancel what is not finished; let the server close a finished one, for `timeout` seconds.

    Triton 2.51 keeps some 16 kB for ever of each call that is cancelled right after its final response.
    """
    if not finished:
        connection.stop_stream(cancel_requests=True)
        return
    patience = threading.Timer(timeout, connection.stop_stream, kwargs={"cancel_requests": True})
    patience.daemon = True
    patience.start()
    try:
        connection.stop_stream(cancel_requests=False)
    finally:
        patience.cancel()


def samples(result: Any) -> np.ndarray:
    """Return the samples of one response, float32 `[samples]`; the last, empty response has none."""
    waveform = result.as_numpy("waveform")
    return np.zeros(0, np.float32) if waveform is None else waveform.reshape(-1).astype(np.float32, copy=False)
