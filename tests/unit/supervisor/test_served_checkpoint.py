"""`--run` uses a server of the same checkpoint alone, and names both checkpoints otherwise."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tritone import serve
from tritone.catalog import open_family
from tritone.errors import EnvironmentProblem
from tritone.supervisor.served_checkpoint import PARAMETER, label, published, refuse_another


class Config(http.server.BaseHTTPRequestHandler):
    """Answers with the config of a model, and to all else that it is ready."""

    said: str = ""

    def do_GET(self) -> None:
        config = {"parameters": {PARAMETER: {"string_value": self.said}} if self.said else {}}
        body = json.dumps(config).encode() if self.path == "/v2/models/voice/config" else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Config) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_label_follows_the_content_of_networks_and_of_voices(tiny_v2: Path, tmp_path: Path) -> None:
    copy = tmp_path / "my voice"
    shutil.copytree(tiny_v2, copy)
    family = open_family(copy)
    name, _, digits = label(family, copy, tmp_path).rpartition(" ")
    assert name == "my voice" and digits == label(open_family(tiny_v2), tiny_v2, tmp_path).split()[-1]
    networks, voices = digits.split("-")
    assert len(networks) == len(voices) == 12
    (copy / "spk2info.pt").write_bytes(b"another registry")
    assert label(family, copy, tmp_path).startswith(f"my voice {networks}-")
    assert not label(family, copy, tmp_path).endswith(voices)
    (copy / "spk2info.pt").unlink()
    assert label(family, copy, tmp_path) == f"my voice {networks}"
    (copy / "llm.pt").write_bytes(b"other weights")
    assert networks not in label(family, copy, tmp_path)


def test_a_server_of_the_same_checkpoint_is_used_whatever_its_folder_is_called(
    port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Config, "said", "my voice 0123456789ab")
    assert published(port, "127.0.0.1", "voice") == "my voice 0123456789ab"
    refuse_another(port, "127.0.0.1", "voice", "other name 0123456789ab")
    assert capsys.readouterr().err == ""


def test_a_server_with_other_voices_of_the_checkpoint_is_to_be_started_again(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Config, "said", "my voice 0123456789ab-000000000000")
    refuse_another(port, "127.0.0.1", "voice", "my voice 0123456789ab-000000000000")
    for own in ("my voice 0123456789ab-111111111111", "my voice 0123456789ab"):
        message = r"speaks with the voices that my voice \(0123456789ab\) had when it started; .* start it again"
        with pytest.raises(EnvironmentProblem, match=message):
            refuse_another(port, "127.0.0.1", "voice", own)


def test_a_server_of_another_checkpoint_is_refused_naming_both(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Config, "said", "my voice 0123456789ab")
    with pytest.raises(
        EnvironmentProblem,
        match=r"speaks with another checkpoint: my voice \(0123456789ab\), not nano \(ba9876543210\); stop it, or "
        "choose other ports with --http-port",
    ):
        refuse_another(port, "127.0.0.1", "voice", "nano ba9876543210")


def test_a_server_that_does_not_say_is_used_and_that_is_said(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_another(port, "127.0.0.1", "voice", "nano ba9876543210")
    assert f"127.0.0.1:{port} does not say which checkpoint it serves; it is used" in capsys.readouterr().err


def test_run_refuses_before_the_command(
    port: int, tiny_v2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    family = open_family(tiny_v2)
    monkeypatch.setattr(serve, "open_family", lambda _: replace(family, name="voice"))
    monkeypatch.setattr(Config, "said", "other 0123456789ab")
    ran = tmp_path / "ran"
    options = [str(tiny_v2), "--http-port", str(port), "--build-dir", str(tmp_path), "--run", "touch", str(ran)]
    assert serve.main(options) == 1
    assert "another checkpoint: other (0123456789ab), not " in capsys.readouterr().err and not ran.exists()
    monkeypatch.setattr(Config, "said", label(family, tiny_v2, tmp_path))
    assert serve.main(options) == 0 and ran.exists()
