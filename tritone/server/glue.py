"""One step of a text-to-speech model inside Triton: tensors in, `tritone.server.steps` does the work, tensors out.

The config's parameters say which step (`step`), which checkpoint (`model_dir`) and which exports (`build_dir`);
`$NAME` in them is read from the server's environment. Rendered copies are the `1/model.py` of every served model.
"""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import triton_python_backend_utils as pb

from tritone.server.bls import Cancelled, status
from tritone.server.pieces import ArrivingTexts
from tritone.server.steps import open_step


class TritonPythonModel:
    """Whole-utterance steps answer a list of requests at once; the streaming entry answers each from its own thread."""

    def initialize(self, args):
        """Open the step's networks and run them once, so that the first request is as fast as the next."""
        config = json.loads(args["model_config"])
        values = {key: os.path.expandvars(item["string_value"]) for key, item in config["parameters"].items()}
        self.outputs = [output["name"] for output in config["output"]]
        counter = pb.MetricFamily(
            name="tritone_lm_tokens_total",
            description="Tokens the language model decoded",
            kind=pb.MetricFamily.COUNTER,
        )
        self.counter, self.tokens = counter, counter.Metric(labels={"model": args["model_name"]})
        self.counting = threading.Lock()
        self.step = open_step(values, on_token=self.count)
        self.pool, self.texts = ThreadPoolExecutor(int(values.get("streams", "1"))), ArrivingTexts(values)

    def execute(self, requests):
        """Responses in the order of the requests; None for the streaming entry, which sends its own."""
        arrays = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if not self.step.streams:
            return [self.response(result) for result in self.step.run(arrays)]
        for request, values in zip(requests, arrays, strict=True):
            sender = request.get_response_sender()
            begins, text = self.texts.receive(request.correlation_id(), request.flags(), values)
            if begins:
                self.pool.submit(self.stream, sender, values, text)
            else:
                self.end(sender, text)

    def stream(self, sender, arrays, text):
        """Send each chunk as it comes; stop the work as soon as the client has gone."""
        try:
            for chunk in self.step.stream(arrays, sender.is_cancelled, text and text.pieces(sender.is_cancelled)):
                sender.send(self.response({self.outputs[0]: chunk[None]}))
            error = Cancelled("cancelled") if sender.is_cancelled() else None
        except Exception as caught:
            error = caught
        self.texts.close(None if error else text)  # why it failed is told before further pieces are refused
        self.end(sender, error)
        self.texts.close(text)

    def end(self, sender, error=None):
        """The final response of a request: none of its own, or the error."""
        sender.send(self.response(error) if error else None, flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def count(self):
        """One more token; two threads inside one metric at a time bring Triton 2.51 down."""
        with self.counting:
            self.tokens.increment(1)

    def response(self, result):
        """The response of one result: its output tensors, or the error that answers this request alone."""
        if isinstance(result, Exception):
            code = getattr(pb.TritonError, status(result))
            return pb.InferenceResponse(error=pb.TritonError(str(result) or type(result).__name__, code))
        return pb.InferenceResponse([pb.Tensor(name, result[name]) for name in self.outputs])

    def finalize(self):
        """Let running streams end before the process does."""
        self.pool.shutdown(cancel_futures=True)
