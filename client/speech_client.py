"""Text to speech over Triton as a library.

    from client.speech_client import SpeechClient

    with SpeechClient("localhost:8001") as client:
        speech = client.synthesize("Good morning.", speaker="rms")      # the whole utterance
        for chunk in client.stream("Good morning.", speaker="rms"):     # as it is made
            play(chunk, client.sample_rate)

Needs tritonclient and NumPy only.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from client.errors import (
    InvalidArgument,
    ModelNotFound,
    ModelNotUsable,
    RequestFailed,
    ServerNotReady,
    ServerUnreachable,
)

PORTS = {"grpc": 8001, "http": 8000}
UNREACHABLE = ("UNAVAILABLE", "connection refused", "failed to connect", "name resolution", "errno 111", "not known")
LATE = ("deadline exceeded", "timed out", "timeout")


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


def request_arrays(
    text: str,
    *,
    speaker: str | None = None,
    reference: np.ndarray | None = None,
    reference_text: str | None = None,
    speed: float | None = None,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """The tensors of one request by name; what is None is left out and the server's default holds.

    `target_text`, `reference_text` and `speaker` are BYTES [1, 1]; `reference_wav` FP32 [1, samples] at 16 kHz with
    `reference_wav_len` INT32 [1, 1]; `speed` FP32 [1, 1]; `seed` INT64 [1, 1]. The server judges the values.
    """
    arrays = {"target_text": _text(text)}
    if speaker is not None:
        arrays["speaker"] = _text(speaker)
    if reference is not None:
        wav = np.asarray(reference, np.float32).reshape(1, -1)
        arrays["reference_wav"] = wav
        arrays["reference_wav_len"] = np.array([[wav.shape[1]]], np.int32)
    if reference_text is not None:
        arrays["reference_text"] = _text(reference_text)
    if speed is not None:
        arrays["speed"] = np.array([[speed]], np.float32)
    if seed is not None:
        arrays["seed"] = np.array([[seed]], np.int64)
    return arrays


class SpeechClient:
    """A connection to one server; safe to use from several threads over gRPC.

    Args:
        url: "host:port"; default is localhost with the protocol's usual port (8001 gRPC, 8000 HTTP).
        protocol: "grpc", or "http" for whole utterances only.
        model: the whole-utterance model; its streaming twin is `<model>_stream`.
        timeout: longest wait in seconds for one answer, and between two chunks.
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
        self.url = url or f"localhost:{PORTS[protocol]}"
        self.protocol = protocol
        self.model = model
        self.timeout = timeout
        self._triton = _triton(protocol)
        self._parameters: dict[str, str] | None = None
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

    def speakers(self) -> list[str]:
        """Names of the registered speakers, from the config's parameter `speakers`; empty if the model lists none."""
        value = self.parameters().get("speakers", "").strip()
        if value.startswith("["):
            return [str(name) for name in json.loads(value)]
        return [name.strip() for name in value.split(",") if name.strip()]

    def parameters(self) -> dict[str, str]:
        """The parameters of the model's config, read once."""
        if self._parameters is None:
            try:
                if self.protocol == "grpc":
                    config = self._connection.get_model_config(self.model, as_json=True)["config"]
                else:
                    config = self._connection.get_model_config(self.model)
            except Exception as error:
                raise self._explain(error, self.model) from error
            found = config.get("parameters", {})
            self._parameters = {key: value.get("string_value", "") for key, value in found.items()}
        return self._parameters

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return once the whole-utterance model is ready; an error says what is missing after `timeout` seconds."""
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
        """Names of the models that are ready on the server; empty if it cannot be asked."""
        try:
            if self.protocol == "grpc":
                index = self._connection.get_model_repository_index(as_json=True).get("models", [])
            else:
                index = self._connection.get_model_repository_index()
        except Exception:
            return []
        return sorted({entry["name"] for entry in index if entry.get("state") == "READY"})

    def synthesize(self, text: str, **controls: Any) -> Speech:
        """The whole utterance at once; `controls` are those of `request_arrays`."""
        rate = self.sample_rate
        inputs = self._inputs(request_arrays(text, **controls))
        limit = {"client_timeout": self.timeout} if self.protocol == "grpc" else {}
        start = time.perf_counter()
        try:
            result = self._connection.infer(self.model, inputs, **limit)
        except Exception as error:
            raise self._explain(error, self.model) from error
        return Speech(_waveform(result), rate, time.perf_counter() - start)

    def stream(self, text: str, **controls: Any) -> Iterator[np.ndarray]:
        """Chunks of the utterance, float32 `[samples]` each, as the server makes them; gRPC only.

        The request leaves with the first `next()`. Closing the generator early cancels the work on the server.
        """
        if self.protocol != "grpc":
            raise ValueError("streaming needs gRPC: SpeechClient(url, protocol='grpc')")
        return self._stream(self._inputs(request_arrays(text, **controls)), f"{self.model}_stream")

    def _stream(self, inputs: list[Any], model: str) -> Iterator[np.ndarray]:
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        # A tritonclient connection carries one stream at a time, so each utterance opens its own.
        connection = self._connect()
        try:
            connection.start_stream(lambda result, error: answers.put((result, error)))
            connection.async_stream_infer(model, inputs, enable_empty_final_response=True)
            finished = False
            while not finished:
                try:
                    result, error = answers.get(timeout=self.timeout)
                except queue.Empty:
                    raise RequestFailed(f"no audio from {model} for {self.timeout:g} s; cancelled") from None
                if error is not None:
                    raise self._explain(error, model) from error
                finished = result.get_response().parameters["triton_final_response"].bool_param
                chunk = _waveform(result)
                if chunk.size:
                    yield chunk
        finally:
            connection.stop_stream(cancel_requests=True)
            connection.close()

    def _connect(self) -> Any:
        if self.protocol == "grpc":
            return self._triton.InferenceServerClient(self.url)
        return self._triton.InferenceServerClient(self.url, connection_timeout=10.0, network_timeout=self.timeout)

    def _inputs(self, arrays: dict[str, np.ndarray]) -> list[Any]:
        inputs = []
        for name, array in arrays.items():
            tensor = self._triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return inputs

    def _explain(self, error: Exception, model: str) -> Exception:
        """The error of this package that says the most about what went wrong."""
        text = error.message() if isinstance(error, InferenceServerException) else str(error)
        status = str(error.status() if isinstance(error, InferenceServerException) else "")
        if "INVALID_ARGUMENT:" in text:
            return InvalidArgument(text[text.index("INVALID_ARGUMENT:") :])
        lowered = f"{status} {text}".lower()
        if "unknown model" in lowered or "is not ready" in lowered or "is not found" in lowered:
            return ModelNotFound(model, self.loaded_models())
        if "invalid_argument" in status.lower() or status == "400":
            return InvalidArgument(text)
        if any(word.lower() in lowered for word in LATE):
            return RequestFailed(f"{model} gave no answer within {self.timeout:g} s ({text})")
        if isinstance(error, OSError) or any(word.lower() in lowered for word in UNREACHABLE):
            return ServerUnreachable(self.url, self.protocol, text)
        return RequestFailed(f"{model} failed: {text}")


def _triton(protocol: str) -> ModuleType:
    """The tritonclient module of the protocol; only the one in use has to be installed."""
    if protocol == "grpc":
        import tritonclient.grpc as grpc_module

        return grpc_module
    import tritonclient.http as http_module

    return http_module


def _text(value: str) -> np.ndarray:
    try:
        return np.array([[value.encode("utf-8")]], dtype=np.object_)
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the text cannot be sent as UTF-8: {error}") from None


def _waveform(result: Any) -> np.ndarray:
    """The samples of one answer, float32 `[samples]`; the empty answer that ends a stream has none."""
    waveform = result.as_numpy("waveform")
    return np.zeros(0, np.float32) if waveform is None else waveform.reshape(-1).astype(np.float32, copy=False)
