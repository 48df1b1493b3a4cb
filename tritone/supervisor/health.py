"""Checks over HTTP, with or without TLS, that a running server is ready and speaks, past every proxy."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tritone.calls import Arrays
from tritone.errors import TritoneError
from tritone.supervisor.preflight import in_url

WARM_UP_TEXT = "Ready."
DATATYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
NOTHING: Arrays = {}
SELF_SIGNED = ssl.create_default_context()
SELF_SIGNED.check_hostname, SELF_SIGNED.verify_mode = False, ssl.CERT_NONE
"""The server asked is the own one, whose certificate is made for the name by which others know it."""
DIRECTLY = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=SELF_SIGNED)
)
"""Opens URLs without the proxies of the environment, which cannot reach this machine's own addresses."""


def open_own(address: str, timeout: float, body: bytes | None = None) -> http.client.HTTPResponse:
    """Return the answer of a server at "host:port/path", with or without TLS; raise OSError or HTTPException."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        return DIRECTLY.open(urllib.request.Request(f"http://{address}", body, headers), timeout=timeout)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as plain:
        try:
            return DIRECTLY.open(urllib.request.Request(f"https://{address}", body, headers), timeout=timeout)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException):
            raise plain from None


def ready(http_port: int, host: str = "127.0.0.1", model: str = "") -> bool:
    """Return True if the server, or the named model, is ready for requests."""
    path = f"models/{model}/ready" if model else "health/ready"
    try:
        with open_own(f"{in_url(host)}:{http_port}/v2/{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


class SocketConnection(http.client.HTTPConnection):
    """An HTTP connection to a server that listens on a file."""

    def __init__(self, path: Path, timeout: float = 2) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ready_at(path: Path) -> bool:
    """Return True if the Triton server that listens at this file has loaded every model."""
    connection = SocketConnection(path)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def speak_whole(
    port: int,
    model: str,
    text: str = WARM_UP_TEXT,
    host: str = "127.0.0.1",
    timeout: float = 60,
    further: Arrays = NOTHING,
) -> int:
    """Return the number of samples the ensemble gives for the text, with the default speaker.

    Args:
        further: other inputs by name, arrays of numbers.
    """
    inputs = [{"name": "target_text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]
    inputs += [
        {"name": name, "shape": list(array.shape), "datatype": DATATYPES[str(array.dtype)], "data": array.tolist()}
        for name, array in further.items()
    ]
    body = {"inputs": inputs}
    answer = json.loads(_post(f"{in_url(host)}:{port}/v2/models/{model}/infer", body, timeout))
    return _samples(model, {output["name"]: output["data"] for output in answer["outputs"]})


def speak_stream(
    port: int,
    model: str,
    text: str = WARM_UP_TEXT,
    host: str = "127.0.0.1",
    timeout: float = 60,
    further: Arrays = NOTHING,
) -> int:
    """Return the number of samples in all chunks that the streaming entry sends for the text (server-sent events)."""
    body = {"target_text": text} | {name: array.reshape(-1).tolist() for name, array in further.items()}
    answer = _post(f"{in_url(host)}:{port}/v2/models/{model}/generate_stream", body, timeout)
    events = [json.loads(line[len("data: ") :]) for line in answer.splitlines() if line.startswith("data: ")]
    return sum(_samples(model, event) for event in events)


def _samples(model: str, outputs: dict[str, Any]) -> int:
    if "error" in outputs:
        raise TritoneError(f"{model} answered: {outputs['error']}")
    wave = outputs.get("waveform", [])
    return len(wave) if isinstance(wave, list) else 1


def _post(url: str, body: dict[str, Any], timeout: float) -> str:
    try:
        with open_own(url, timeout, json.dumps(body).encode()) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        raise TritoneError(f"{url} answered {error.code}: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise TritoneError(f"no answer from {url}: {error}") from error
