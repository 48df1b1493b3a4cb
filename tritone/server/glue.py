"""The Python model behind every `1/model.py`: hands Triton's tensors to `tritone.server.models` and returns results.

Parameters in its config say what to serve and where it lies; `$NAME` in them is read from the server's environment.
"""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import triton_python_backend_utils as pb  # exists only in a process that Triton starts

from tritone.server.bls import Cancelled, status
from tritone.server.flags import Flags
from tritone.server.models import StreamModel, open_model
from tritone.server.pieces import ArrivingText, ArrivingTexts
from tritone.stage import Arrays

PAUSE = 0.02
"""Seconds between two looks at whether the client of a paused stream reads again."""


class TritonPythonModel:
    """Answers lists of whole requests in order; the streaming model answers each request from a thread of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the networks and run them once, so that the first request is as fast as later ones."""
        config = json.loads(args["model_config"])
        values = {key: os.path.expandvars(item["string_value"]) for key, item in config["parameters"].items()}
        self.outputs = [output["name"] for output in config["output"]]
        about = {"name": "tritone_lm_tokens_total", "description": "Tokens the language model decoded"}
        self.metric, self.counting = pb.MetricFamily(kind=pb.MetricFamily.COUNTER, **about), threading.Lock()
        self.tokens = self.metric.Metric(labels={"model": args["model_name"]})
        self.model = open_model(values, on_token=self.count)
        self.flags = Flags.from_environment()
        self.pool, self.texts = ThreadPoolExecutor(int(values.get("streams", "1"))), ArrivingTexts(values)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Return the responses in the order of the requests; None for the streaming model, which sends its own."""
        arrays = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if not isinstance(self.model, StreamModel):
            return [self.response(result) for result in self.model.run(arrays)]
        for request, values in zip(requests, arrays, strict=True):
            sender = request.get_response_sender()
            begins, text, error = self.texts.receive(request.correlation_id(), request.flags(), values)
            if begins:
                self.pool.submit(self.stream, self.model, sender, values, text, request.request_id())
            else:
                self.end(sender, error)
        return None

    def stream(
        self, model: StreamModel, sender: Any, arrays: Arrays, text: ArrivingText | None, request_id: str
    ) -> None:
        """Send each chunk when it is ready; stop the work as soon as the client has gone, pause if it does not read."""
        # Behind the front door a file tells of a cancellation; asking Triton takes a hundred times as long.
        known = self.flags.known(request_id)
        cancelled = partial(self.flags.cancelled, request_id) if known else sender.is_cancelled
        error: Exception | None = None
        pieces = text.pieces(cancelled) if text else None
        try:
            for chunk in model.stream(arrays, cancelled, pieces):
                sender.send(self.response({self.outputs[0]: chunk[None]}))
                while self.flags.paused(request_id) and not cancelled():
                    time.sleep(PAUSE)
        except Exception as caught:
            error = caught
        error = error or (Cancelled("cancelled") if cancelled() else None)
        self.texts.close(None if error else text)  # a failure is sent before later pieces are refused
        self.end(sender, error)
        self.texts.close(text)

    def end(self, sender: Any, error: Exception | None = None) -> None:
        """Send the final response of a request, which is empty or holds the error."""
        sender.send(self.response(error) if error else None, flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def count(self) -> None:
        """Count one token; Triton 2.51 crashes when two threads change a metric at the same time."""
        with self.counting:
            self.tokens.increment(1)

    def response(self, result: Arrays | Exception) -> Any:
        """Return the response for one result: its output tensors, or the error of this request alone."""
        if isinstance(result, Exception):
            code = getattr(pb.TritonError, status(result))
            return pb.InferenceResponse(error=pb.TritonError(str(result) or type(result).__name__, code))
        return pb.InferenceResponse([pb.Tensor(name, result[name]) for name in self.outputs])

    def finalize(self) -> None:
        """Let running streams end before the process does."""
        self.pool.shutdown(cancel_futures=True)
