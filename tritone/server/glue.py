"""The Python model behind every `1/model.py`: hands Triton's tensors to `tritone.server.models` and returns results.

Parameters in its config say what to serve and where it lies; `$NAME` in them is read from the server's environment.
"""

import json
import os
from functools import partial
from typing import Any

import numpy as np
import triton_python_backend_utils as pb  # exists only in a process that Triton starts

from tritone.server.bls import status
from tritone.server.counters import Counters
from tritone.server.flags import Flags
from tritone.server.heap import Heap, limit_heaps
from tritone.server.models import StreamModel, open_model
from tritone.server.streams import Streams
from tritone.stage import Arrays


class TritonPythonModel:
    """Answers lists of whole requests in order; the streaming model answers each request from a thread of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the networks and run them once, so that the first request is as fast as later ones."""
        limit_heaps()
        self.heap = Heap()
        config = json.loads(args["model_config"])
        values = {key: os.path.expandvars(item["string_value"]) for key, item in config["parameters"].items()}
        self.outputs = [output["name"] for output in config["output"]]
        self.counters = Counters(pb, args["model_name"])
        self.flags = Flags.from_environment()
        model = open_model(values, on_token=self.counters.token)
        self.whole = None if isinstance(model, StreamModel) else model
        self.kept = model.family.kept if isinstance(model, StreamModel) else None
        self.streams: Any = Streams(model, values, self.flags, self.send) if isinstance(model, StreamModel) else None

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Return the responses in the order of the requests; None for the streaming model, which sends its own."""
        arrays = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if self.whole is not None:
            left = [partial(self.flags.cancelled, request.request_id()) for request in requests]
            results = self.whole.run(arrays, left)
            self.heap.ended()
            return [self.response(result) for result in results]
        for request, values in zip(requests, arrays, strict=True):
            self.streams.begin(request, values)
        return None

    def send(self, sender: Any, result: np.ndarray | Exception | None, final: bool) -> None:
        """Send one response of a stream: a chunk `[samples]`, an error, or nothing, which only a final one can be."""
        answer = {self.outputs[0]: result[None]} if isinstance(result, np.ndarray) else result
        flags = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        sender.send(None if answer is None else self.response(answer), flags=flags)
        if final:
            self.heap.ended()
            self.counters.show_kept(self.kept)

    def response(self, result: Arrays | Exception) -> Any:
        """Return the response for one result: its output tensors, or the error of this request alone."""
        if isinstance(result, Exception):
            code = getattr(pb.TritonError, status(result))
            return pb.InferenceResponse(error=pb.TritonError(str(result) or type(result).__name__, code))
        return pb.InferenceResponse([pb.Tensor(name, result[name]) for name in self.outputs])

    def finalize(self) -> None:
        """Let running streams end before the process does."""
        self.heap.close()
        if self.streams is not None:
            self.streams.close()
