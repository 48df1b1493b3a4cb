"""A server on this machine is reached without the proxies of the environment, another one with them."""

from __future__ import annotations

import re
import socket
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tritone.client.address import on_this_machine, server_address
from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
HERE = [
    *("localhost:8001", "LOCALHOST", "127.0.0.1:8001", "127.3.2.1:1", "[::1]:8001", "::1", "0.0.0.0:8001"),
    *("dns:///localhost:8001", "ipv4:127.0.0.1:8001", "ipv6:[::1]:8001", "http://localhost:8000", "unix:/tmp/x:1"),
    *("unix:///tmp/x", "voice.localhost:8001", "localhost.localdomain:1", "[::ffff:127.0.0.1]:1", "ip6-localhost:1"),
    "https://127.0.0.1:8000/path",
]
ELSEWHERE = ["voice.example:8001", "10.0.0.1:8001", "[2001:db8::1]:8001", "localhost.example:1", "notlocalhost:1", ""]


@pytest.mark.parametrize("url", HERE)
def test_addresses_of_this_machine(url: str) -> None:
    assert on_this_machine(url)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_addresses_of_other_machines(url: str) -> None:
    assert not on_this_machine(url)


class Ready(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers that it is live and ready."""

    def ServerLive(self, _request: object, _context: object) -> object:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, _request: object, _context: object) -> object:
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, _request: object, _context: object) -> object:
        return service_pb2.ModelReadyResponse(ready=True)


class Proxy:
    """A port that counts its connections and closes them at once."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.asked.set()
            connection.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Proxy:
    proxy = Proxy()
    for name in PROXIES:
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    return proxy


def test_a_server_on_this_machine_is_asked_past_every_proxy(proxy: Proxy, tmp_path: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Ready(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    try:
        for url in (f"127.0.0.1:{port}", f"localhost:{port}", f"unix:{tmp_path}/s"):
            with SpeechClient(url) as client:
                client.wait_until_ready(30)
    finally:
        server.stop(0)
    assert not proxy.asked.is_set()
    proxy.close()


def test_a_server_elsewhere_is_asked_through_the_proxy(proxy: Proxy) -> None:
    with SpeechClient("voice.example:8001", timeout=30) as client, pytest.raises(SpeechError):
        client.wait_until_ready(0)
    assert proxy.asked.wait(30)
    proxy.close()


def test_an_address_is_taken_as_people_type_it() -> None:
    for typed, protocol, address in (
        (None, "grpc", "localhost:8001"), ("", "http", "localhost:8000"), ("voices", "http", "voices:8000"),
        ("voices:1", "grpc", "voices:1"), ("http://127.0.0.1:18100/", "http", "127.0.0.1:18100"),
        ("HTTP://voices", "http", "voices:8000"), ("grpc://voices:1", "grpc", "voices:1"),
        ("[::1]:80", "grpc", "[::1]:80"), ("[::1]", "http", "[::1]:8000"), ("::1", "grpc", "[::1]:8001"),
        ("unix:/run/x", "grpc", "unix:/run/x"), ("dns:///voices:1", "grpc", "dns:///voices:1"),
    ):  # fmt: skip
        assert server_address(typed, protocol) == address
    for typed, protocol, said in (
        ("http://h:1", "grpc", "is an address of HTTP, and gRPC was chosen; add --http, or give host:port of gRPC"),
        ("grpc://h:1", "http", "is an address of gRPC, and HTTP was chosen; leave out --http, or give"),
        ("https://h:1", "http", "this client speaks without TLS"),
        ("ftp://h", "http", "unknown scheme ftp; give host:port, such as localhost:8000"),
        ("http://h:1/v2", "http", "has the path /v2; give host:port alone"),
        ("unix:/run/x", "http", "has the path"), (":80", "grpc", "is no address; give host:port"),
        ("a b", "http", "is no address"), ("h:", "grpc", "'' is not a port number (1 to 65535)"),
        ("h:x", "grpc", "'x' is not a port"), ("h:65536", "http", "'65536' is not a port"),
    ):  # fmt: skip
        with pytest.raises(SpeechError, match=re.escape(said)):
            server_address(typed, protocol)
