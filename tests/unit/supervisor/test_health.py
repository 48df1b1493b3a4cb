"""Checks of the own server go past the proxies of the environment, to whatever address it listens on."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tritone import serve
from tritone.door.tls import Tls
from tritone.errors import EnvironmentProblem, TritoneError
from tritone.supervisor.health import ready, speak_stream, speak_whole

WHOLE = b'{"outputs": [{"name": "waveform", "data": [0.0, 0.1, 0.2]}]}'


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as a server with one model whose utterances have three samples."""

    def do_GET(self) -> None:
        self.answer(200 if self.path in ("/v2/health/ready", "/v2/models/voice/ready") else 400, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        stream = self.path.endswith("generate_stream")
        self.answer(200, b'data: {"waveform": [0.0, 0.1]}\n\ndata: {"waveform": 0.5}\n\n' if stream else WHOLE)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.0.0.2"])
def test_the_own_server_is_asked_past_proxies_at_its_address(port: int, host: str) -> None:
    assert ready(port, host) and ready(port, host, "voice")
    assert not ready(port, host, "other")
    assert speak_whole(port, "voice", host=host) == 3
    assert speak_stream(port, "voice", host=host) == 3


def test_check_asks_at_the_address_the_server_listens_on(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    serve.check(SimpleNamespace(name="voice", trial={}), port, "127.0.0.2")  # type: ignore[arg-type]
    assert capsys.readouterr().out.count("3 samples") == 2


def test_no_answer_is_an_error_and_not_ready() -> None:
    assert not ready(9)
    with pytest.raises(TritoneError, match=r"no answer from 127\.0\.0\.1:9/v2"):
        speak_whole(9, "voice")


def test_a_server_with_tls_is_asked_too(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=speech.example", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = Tls(certificate, key).context()
    assert context is not None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert ready(server.server_port) and speak_whole(server.server_port, "voice") == 3
    finally:
        server.shutdown()
        server.server_close()


def test_tls_files_that_do_not_fit_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("nothing")
    with pytest.raises(EnvironmentProblem, match=r"TLS cannot use .*a\.pem"):
        Tls(tmp_path / "a.pem", tmp_path / "a.pem").context()
    with pytest.raises(EnvironmentProblem, match="needs both a certificate and its key"):
        Tls(tmp_path / "a.pem")
