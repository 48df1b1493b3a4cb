"""A stand-in for the gRPC client that CosyVoice publishes beside its Triton recipe: same arguments, same protocol.

It knows the recipe's model names only, and uses one name for whole utterances and for streams. A stream is read as
that client reads it: an answer marked as final is dropped unread, all others are chunks.
"""

from __future__ import annotations

import argparse
import queue
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonclient import grpc

MODELS = ("f5_tts", "spark_tts", "cosyvoice3", "cosyvoice2", "cosyvoice2_dit")
"""What its `--model-name` takes."""
PADDING = {"offline": 1, "streaming": 10}
"""Recordings are padded with zeros to a multiple of these seconds at least; their true length is sent beside them."""
RATE = 16000


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments as that client parses them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-addr", default="localhost")
    parser.add_argument("--server-port", type=int, default=8001)
    parser.add_argument("--reference-text", default="")
    parser.add_argument("--target-text", default="")
    parser.add_argument("--model-name", default="f5_tts", choices=MODELS)
    parser.add_argument("--mode", default="offline", choices=tuple(PADDING))
    parser.add_argument("--use-spk2info-cache", default="False")
    return parser.parse_args(arguments)


def speak(arguments: Sequence[str], recording: np.ndarray, url: str = "", model: str = "") -> list[np.ndarray]:
    """Return the waveform of the offline mode as one part, or the chunks of the streaming mode.

    Args:
        recording: float32 `[samples]` at 16 kHz, in place of the client's file.
        url: an address in place of host and port. model: a name in place of one that the client knows.
    """
    asked = options(arguments)
    name = model or asked.model_name
    inputs = tensors(asked, recording)
    outputs = [grpc.InferRequestedOutput("waveform")]
    with grpc.InferenceServerClient(url or f"{asked.server_addr}:{asked.server_port}") as client:
        if asked.mode == "offline":
            answer = client.infer(name, inputs, request_id="100000000", outputs=outputs, client_timeout=120)
            return [answer.as_numpy("waveform").reshape(-1)]
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        request_id = str(uuid.uuid4())
        client.async_stream_infer(
            name, inputs, request_id=request_id, outputs=outputs, enable_empty_final_response=True
        )
        chunks: list[np.ndarray] = []
        while True:
            result, error = answers.get(timeout=120)
            if error is not None:
                raise error
            response = result.get_response()
            assert response.id == request_id
            if response.parameters["triton_final_response"].bool_param:
                client.stop_stream()
                return chunks
            chunks.append(result.as_numpy("waveform").reshape(-1))


def tensors(asked: argparse.Namespace, recording: np.ndarray) -> list[Any]:
    """Return the request's inputs; the target text alone with `--use-spk2info-cache True`."""
    seconds, padding = len(recording) / RATE, PADDING[asked.mode]
    expected = seconds
    if asked.reference_text:
        expected = seconds / len(asked.reference_text) * len(asked.target_text)
    samples = np.zeros((1, padding * RATE * (int(expected + seconds) // padding + 1)), np.float32)
    samples[0, : len(recording)] = recording
    arrays = {
        "reference_wav": (samples, "FP32"),
        "reference_wav_len": (np.array([[len(recording)]], np.int32), "INT32"),
        "reference_text": (np.array([[asked.reference_text]], object), "BYTES"),
        "target_text": (np.array([[asked.target_text]], object), "BYTES"),
    }
    if asked.use_spk2info_cache.lower() == "true":
        arrays = {"target_text": arrays["target_text"]}
    inputs = []
    for name, (array, datatype) in arrays.items():
        inputs.append(grpc.InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array)
    return inputs
