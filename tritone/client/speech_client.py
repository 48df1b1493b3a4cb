"""Text to speech over Triton as a library.

    from tritone.client.speech_client import SpeechClient

    with SpeechClient("localhost:8001") as client:
        speech = client.synthesize("Good morning.", speaker="rms")      # the whole utterance
        for chunk in client.stream("Good morning.", speaker="rms"):     # while it is synthesised
            play(chunk, client.sample_rate)
        for chunk in client.speak_pieces(words_of_a_chat()):            # while its text is being written
            play(chunk, client.sample_rate)

Needs tritonclient and NumPy only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from tritonclient.utils import np_to_triton_dtype

from tritone.client.address import PORTS, grpc_options, server_address
from tritone.client.errors import (
    ModelNotFound,
    ModelNotUsable,
    ServerNotReady,
    ServerUnreachable,
    SpeechError,
    explain,
)
from tritone.client.request import further_arrays, request_arrays
from tritone.client.streaming import Ask, chunks, in_pieces, samples


@dataclass(frozen=True)
class Speech:
    """One synthesised utterance: `waveform` float32 `[samples]` at `sample_rate` Hz, and the seconds it took."""

    waveform: np.ndarray
    sample_rate: int
    elapsed: float

    @property
    def seconds(self) -> float:
        """Duration of the audio."""
        return len(self.waveform) / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio; below 1 is faster than speech."""
        return self.elapsed / self.seconds if self.seconds else float("inf")


class SpeechClient:
    """A connection to one server; safe to use from several threads over gRPC.

    Args:
        url: "host:port"; default is localhost with the protocol's usual port (8001 gRPC, 8000 HTTP), which is also
            taken for a host alone. A scheme of the protocol ("http://", "grpc://") may stand before it.
        protocol: "grpc", or "http" for whole utterances only.
        model: the whole-utterance model; its streaming twin is `<model>_stream`.
        timeout: longest wait in seconds for a response, and between two chunks.
    """

    def __init__(
        self,
        url: str | None = None,
        protocol: Literal["grpc", "http"] = "grpc",
        model: str = "cosyvoice2",
        timeout: float = 300.0,
    ) -> None:
        if protocol not in PORTS:
            raise ValueError(f"protocol must be 'grpc' or 'http', got {protocol!r}")
        self.url = server_address(url, protocol)
        self.protocol = protocol
        self.model = model
        self.timeout = timeout
        self._triton = _triton(protocol)
        self._config: dict[str, Any] | None = None
        try:
            self._connection = self._connect()
        except Exception as error:
            raise ServerUnreachable(self.url, protocol, str(error)) from error

    def __enter__(self) -> SpeechClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def sample_rate(self) -> int:
        """Samples per second of what the model returns, from its config's parameter `sample_rate`."""
        value = self.parameters().get("sample_rate", "")
        if not value.isdigit():
            raise ModelNotUsable(
                f"the config of model {self.model!r} has no parameter sample_rate (found {value!r}); "
                "render the model repository again with `python export/repository.py`"
            )
        return int(value)

    @property
    def recording_rate(self) -> int:
        """Samples per second of the recordings that requests send: 16000, or the model's own rate if it takes that."""
        return self.sample_rate if self.parameters().get("speaker_from") == "recording" else 16000

    def speakers(self) -> list[str]:
        """Return the names of the registered speakers, from the config's parameter `speakers`.

        Empty if the model lists none.
        """
        value = self.parameters().get("speakers", "").strip()
        if value.startswith("["):
            return [str(name) for name in json.loads(value)]
        return [name.strip() for name in value.split(",") if name.strip()]

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the model's config."""
        found = self.config().get("parameters", {})
        return {key: value.get("string_value", "") for key, value in found.items()}

    def inputs(self) -> dict[str, str]:
        """Triton's datatype of each of the model's inputs by name."""
        return {one["name"]: one["data_type"] for one in self.config().get("input", [])}

    def config(self) -> dict[str, Any]:
        """Return the model's config, read once."""
        if self._config is None:
            try:
                if self.protocol == "grpc":
                    self._config = self._connection.get_model_config(self.model, as_json=True)["config"]
                else:
                    self._config = self._connection.get_model_config(self.model)
            except Exception as error:
                raise self._explain(error, self.model) from error
        return self._config

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once the whole-utterance model is ready; raise an error with the reason after `timeout` seconds."""
        deadline, alive, detail = time.monotonic() + timeout, False, "no answer"
        while True:
            try:
                alive = bool(self._connection.is_server_live())
                complete = bool(self._connection.is_server_ready())
                if self._connection.is_model_ready(self.model):
                    return
                if complete:  # every model is loaded, and this one is not among them
                    break
            except Exception as error:
                detail = str(error)
            if time.monotonic() >= deadline:
                break
            time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
        if not alive:
            raise ServerUnreachable(self.url, self.protocol, detail)
        loaded = self.loaded_models()
        if loaded and self.model not in loaded:
            raise ModelNotFound(self.model, loaded)
        raise ServerNotReady(self.url, timeout)

    def loaded_models(self) -> list[str]:
        """Return the names of the models that are ready on the server; empty if it cannot be asked."""
        try:
            if self.protocol == "grpc":
                index = self._connection.get_model_repository_index(as_json=True).get("models", [])
            else:
                index = self._connection.get_model_repository_index()
        except Exception:
            return []
        return sorted({entry["name"] for entry in index if entry.get("state") == "READY"})

    def synthesize(self, text: str | None = None, **controls: Any) -> Speech:
        """Return the whole utterance at once.

        `controls` are those of `request_arrays`, and `inputs`: further inputs of this model by name, such as
        `inputs={"language": "JP"}`.
        """
        rate = self.sample_rate
        inputs = self._inputs(self._arrays(text, controls))
        limit = {"client_timeout": self.timeout} if self.protocol == "grpc" else {}
        start = time.perf_counter()
        try:
            result = self._connection.infer(self.model, inputs, **limit)
        except Exception as error:
            raise self._explain(error, self.model) from error
        return Speech(samples(result), rate, time.perf_counter() - start)

    def stream(self, text: str | None = None, **controls: Any) -> Iterator[np.ndarray]:
        """Yield the utterance's chunks, float32 `[samples]` each, as the server sends them; gRPC only.

        The request is sent by the first `next()`. Closing the generator early cancels the work on the server.
        """
        arrays = self._arrays(text, controls)
        return self._listen(lambda send, _stopped: send(arrays))

    def speak_pieces(self, pieces: Iterable[str], **controls: Any) -> Iterator[np.ndarray]:
        """Yield chunks while the text is still arriving; speech begins before the last piece.

        Pieces are joined without added spaces. A thread of its own reads them, and an error in reading is raised
        here. `controls` as for `stream`.
        """
        return self._listen(in_pieces(self._arrays("", controls), pieces))

    def _arrays(self, text: str | None, controls: dict[str, Any]) -> dict[str, np.ndarray]:
        further = controls.pop("inputs", None)
        arrays = request_arrays(text, **controls)
        return arrays | further_arrays(further, self.inputs()) if further else arrays

    def _listen(self, ask: Ask) -> Iterator[np.ndarray]:
        if self.protocol != "grpc":
            raise ValueError("streaming needs gRPC: SpeechClient(url, protocol='grpc')")
        return self._chunks(ask, f"{self.model}_stream")

    def _chunks(self, ask: Ask, model: str) -> Iterator[np.ndarray]:
        # A tritonclient connection carries one stream at a time, so each utterance opens its own.
        yield from chunks(
            self._connect(), model, ask, self._inputs, lambda error: self._explain(error, model), self.timeout
        )

    def _connect(self) -> Any:
        if self.protocol == "grpc":
            return self._triton.InferenceServerClient(self.url, channel_args=grpc_options(self.url))
        return self._triton.InferenceServerClient(self.url, connection_timeout=10.0, network_timeout=self.timeout)

    def _inputs(self, arrays: dict[str, np.ndarray]) -> list[Any]:
        inputs = []
        for name, array in arrays.items():
            tensor = self._triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return inputs

    def _explain(self, error: Exception, model: str) -> SpeechError:
        return explain(error, model, self.url, self.protocol, self.timeout, self.loaded_models)


def _triton(protocol: str) -> ModuleType:
    """Return the tritonclient module of the protocol; only the one in use has to be installed."""
    if protocol == "grpc":
        import tritonclient.grpc as grpc_module

        return grpc_module
    import tritonclient.http as http_module

    return http_module
