"""The typed configuration, the record of a start, logs of each process, and the download of base models."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from training.bert_vits2.base_model import main
from training.bert_vits2.config import Settings, TrainConfig, parse, read
from training.bert_vits2.download import Source, fetch
from training.bert_vits2.environment import differences, last_config, record
from training.core.logs import close_log, open_log
from tritone.errors import ConfigError, EnvironmentProblem

SLM = {"model": "slm/wavlm", "sr": 16000, "hidden": 768, "nlayers": 13, "initial_channel": 64}
PUBLISHED: dict[str, Any] = {
    "train": {
        "log_interval": 200, "eval_interval": 1000, "seed": 42, "epochs": 1000, "learning_rate": 0.0002,
        "betas": [0.8, 0.99], "eps": 1e-09, "batch_size": 16, "bf16_run": False, "lr_decay": 0.99995,
        "segment_size": 16384, "init_lr_ratio": 1, "warmup_epochs": 0, "c_mel": 45, "c_kl": 1.0, "c_commit": 100,
        "skip_optimizer": True, "freeze_ZH_bert": False, "freeze_JP_bert": False, "freeze_EN_bert": False,
        "freeze_emo": False,
    },
    "data": {"sampling_rate": 44100, "n_speakers": 2, "spk2id": {"a": 0, "b": 1}},
    "model": {"slm": SLM},
    "version": "2.3",
}  # fmt: skip


def changed(*overrides: str) -> Settings:
    return parse(PUBLISHED, overrides)


def test_a_published_configuration_is_understood() -> None:
    train = parse(PUBLISHED).train
    assert (train.lr, train.precision, train.skip_optimizer, train.freeze) == (2e-4, "fp32", True, ())
    published = {"learning_rate": 1e-4, "bf16_run": True, "freeze_ZH_bert": True, "freeze_EN_bert": True}
    train = parse(PUBLISHED | {"train": published}).train
    assert (train.lr, train.precision) == (1e-4, "bf16")
    assert train.freeze == ("G.enc_p.bert_proj.*", "G.enc_p.en_bert_proj.*")
    assert parse({"train": {"fp16_run": True}, "model": {"slm": SLM}}).train.precision == "fp16", "2.0 to 2.2"
    assert not TrainConfig().skip_optimizer, "losing the optimisers on every resume is asked for, not the default"


def test_overrides_win_and_the_file_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED))
    path.chmod(0o444)
    before = path.read_bytes()
    settings = read(path, ["train.lr=1e-4", "train.clip_d=100", "train.precision=bf16", "data.hop_length=512"])
    assert (settings.train.lr, settings.train.clip("D"), settings.train.clip("G")) == (1e-4, 100.0, 500.0)
    assert settings.train.clip("WD") is None and settings.train.precision == "bf16"
    assert path.read_bytes() == before
    assert parse(settings.document()).train == settings.train, "what is recorded can be trained with"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["train.lerning_rate=1"], r"train has unknown keys: lerning_rate; the known keys are base_model, "),
        (["optimizer.lr=1"], r"has unknown keys: optimizer; the known keys are data, model, train, version"),
        (["train.lr"], r"--set train\.lr is invalid; write it like --set train\.lr=1e-4\."),
        (["train.lr=fast"], r"train\.lr is 'fast'; expected float\."),
        (["train.betas=[0.8]"], r"train\.betas is \[0\.8\]; AdamW takes two"),
        (["train.lr=0"], r"train\.lr 0\.0, train\.lr_decay 0\.99995: rates are above 0"),
        (["train.batch_size=0", "train.keep=0"], r"train\.batch_size, train\.keep must be at least 1"),
        (["train.workers=-1"], r"train\.workers is -1; 0 loads batches in the training process"),
        (["train.precision=int8"], r"train\.precision is 'int8'; the choices are fp32, bf16, fp16"),
        (["train.duration_loss=x"], r"train\.duration_loss is 'x'; the choices are fixed, published"),
        (["train.best_by=loss"], r"train\.best_by is 'loss'; the choices are mel_from_text, mel"),
        (["train.judged_from=-1"], r"train\.judged_from is -1; steps count from 0"),
        (["train.judge_shrink=3"], r"train\.judge_shrink is 3; the choices are 1, 2, 4, 8, 16"),
        (["train.clip_wd=-1"], r"train\.clip_\* must not be below 0"),
        (["train.segment_size=1000"], r"segment_size 1000 is not a multiple of data\.hop_length 512"),
        (["train.segment_size=32768"], r"32768 is 64 frames, but train\.bucket_boundaries allow utterances of 33"),
        (["train.bucket_boundaries=[300,32]"], r"bucket_boundaries is \[300, 32\]; it needs at least two frame counts"),
        (["model.slm=null"], r"model\.slm is None; expected object"),
        (["train.base_model.files={\"G_0.pth\":\"ab\"}"], r"base_model\.files needs train\.base_model\.folder and"),
        (["train.base_model={\"folder\":\"b\",\"sources\":[{\"url\":\"http://h\"}],\"files\":{\"x.pth\":\"ab\"}}"],
         r"files has x\.pth; names begin with G_, D_, WD_, DUR_"),
        (["train.base_model.sources=[{\"url\":\"ftp://h\"}]"], r"'ftp://h', which is not an http or https address"),
        (["train.base_model.adress=1"], r"train\.base_model has unknown keys: adress; the known keys are allow_"),
        (["train.learning_rate=1", "train.lr=1"], r"contradicts itself: train has both learning_rate and lr"),
        (["train.bf16_run=true", "train.precision=fp16"], r"contradicts itself: bf16_run and precision fp16"),
        (["train.bf16_run=true", "train.fp16_run=true"], r"contradicts itself: bf16_run and fp16_run"),
        (["data.hop_length=500"], r"upsample_rates multiply to 512, but data\.hop_length is 500"),
        (["train=5"], r"--set train=5 is invalid"),
    ],
)  # fmt: skip
def test_contradictions_and_unknown_keys_are_errors(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        changed(*overrides)


def test_wavlm_needs_its_section() -> None:
    with pytest.raises(ConfigError, match=r"wavlm_discriminator is true but the section model\.slm, which"):
        parse({"train": {}})
    assert not parse({}, ["train.wavlm_discriminator=false"]).train.wavlm_discriminator


def test_the_file_is_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=r"config\.json does not exist; --config takes"):
        read(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
        read(path)
    path.write_text(json.dumps(PUBLISHED))
    with pytest.raises(ConfigError, match=r"config\.json: train has unknown keys: rate"):
        read(path, ["train.rate=1"])


def test_every_start_is_recorded_with_code_machine_and_configuration(tmp_path: Path) -> None:
    assert last_config(tmp_path) is None
    document = parse(PUBLISHED).document()
    row = record(tmp_path, document, torch.device("cpu"))
    assert len(row["git"]["commit"]) == 40 and isinstance(row["git"]["changed"], bool)
    assert row["packages"]["torch"] == torch.__version__ and row["device"] == "cpu"
    later = changed("train.lr=1e-5").document()
    record(tmp_path, later, torch.device("cpu"))
    assert (tmp_path / "starts.jsonl").read_text().count("\n") == 2
    assert last_config(tmp_path) == later
    assert differences(document, later) == ["train.lr: 0.0002 -> 1e-05"]


def test_each_process_has_a_log_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 1):
        monkeypatch.setattr("training.core.distributed.rank", lambda rank=rank: rank)
        log = open_log(tmp_path)
        log.info("loss of rank %d", rank)
        close_log(log)
    assert [path.name for path in sorted(tmp_path.glob("*.log"))] == ["train.rank0.log", "train.rank1.log"]
    assert "INFO\tloss of rank 1" in (tmp_path / "train.rank1.log").read_text()
    assert logging.getLogger("training").handlers == []


CONTENT = bytes(range(256)) * 3000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT under any name; `fails` lists what happens to the next requests, `seen` what they asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails: list[str] = []
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.ranges, self.content = True, CONTENT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.seen.append((self.path, asked, self.headers.get("Authorization")))
        fail = self.server.fails.pop(0) if self.server.fails else ""
        if fail.startswith("http"):
            self.send_response(302)
            self.send_header("Location", fail + self.path)
            self.end_headers()
            return
        if fail == "missing":
            self.send_error(404)
            return
        content = self.server.content
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + 100_000] if fail == "drop" else content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    pair = Server(), Server()
    for server in pair:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield pair
    for server in pair:
        server.shutdown()
        server.server_close()


def test_a_base_model_is_fetched_once_with_a_progress_bar(
    servers: tuple[Server, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, _ = servers
    for _ in range(2):
        (path,) = fetch({"G_0.pth": DIGEST.upper()}, [Source(one.url)], tmp_path)
    assert path.read_bytes() == CONTENT and list(tmp_path.iterdir()) == [path]
    assert one.seen == [("/files/G_0.pth", None, None)]
    assert "G_0.pth: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_continued(servers: tuple[Server, Server], tmp_path: Path, ranges: bool) -> None:
    one, _ = servers
    one.fails, one.ranges = ["drop"], ranges
    says = r"ended after 100000 of 768000 bytes\. 100000 bytes are kept; the next run continues from there\. Put"
    with pytest.raises(EnvironmentProblem, match=says):
        fetch({"G_0.pth": DIGEST}, [Source(one.url)], tmp_path)
    (path,) = fetch({"G_0.pth": DIGEST}, [Source(one.url)], tmp_path)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked, _ in one.seen] == [None, "bytes=100000-"]


def test_leftovers_of_another_version_are_started_again(servers: tuple[Server, Server], tmp_path: Path) -> None:
    one, _ = servers
    for leftover in (b"something else", CONTENT + b"more than there is", CONTENT):
        (tmp_path / "G_0.pth.part").write_bytes(leftover)
        (path,) = fetch({"G_0.pth": DIGEST}, [Source(one.url)], tmp_path)
        assert path.read_bytes() == CONTENT
        path.unlink()
    assert [asked for _, asked, _ in one.seen] == [
        "bytes=14-", None, f"bytes={len(CONTENT) + 18}-", None, f"bytes={len(CONTENT)}-"
    ]  # fmt: skip


def test_a_mirror_is_asked_when_the_first_source_fails(servers: tuple[Server, Server], tmp_path: Path) -> None:
    one, two = servers
    one.fails, two.content = ["drop"], CONTENT
    (path,) = fetch({"D_0.pth": DIGEST}, [Source(one.url), Source(two.url)], tmp_path)
    assert path.read_bytes() == CONTENT
    assert two.seen == [("/files/D_0.pth", "bytes=100000-", None)], "what the first gave is not asked for again"
    one.fails, two.content = ["missing"], b"wrong"
    says = rf"D_1\.pth: HTTP Error 404: .*; .*{two.server_port}/files/D_1\.pth: SHA-256 is \w+ instead"
    with pytest.raises(EnvironmentProblem, match=says):
        fetch({"D_1.pth": DIGEST}, [Source(one.url), Source(two.url)], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["D_0.pth"]


def test_a_wrong_file_in_place_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "G_0.pth").write_bytes(b"mine")
    with pytest.raises(EnvironmentProblem, match=rf"G_0\.pth exists with SHA-256 \w+ instead of {DIGEST}\. Delete it"):
        fetch({"G_0.pth": DIGEST}, [Source("http://127.0.0.1:9")], tmp_path)
    assert (tmp_path / "G_0.pth").read_bytes() == b"mine"


def test_a_token_goes_to_its_own_host_alone(
    servers: tuple[Server, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = servers
    monkeypatch.setenv("BASE_TOKEN", "s3cret")
    one.fails = [f"http://127.0.0.1:{two.server_port}"]
    fetch({"G_0.pth": DIGEST}, [Source(one.url, "BASE_TOKEN")], tmp_path)
    assert [seen[2] for seen in one.seen + two.seen] == ["Bearer s3cret", None], "not along a redirect"
    with pytest.raises(ConfigError, match=r"the token in BASE_TOKEN would travel unencrypted to http://models\.test"):
        fetch({"D_0.pth": DIGEST}, [Source("http://models.test", "BASE_TOKEN")], tmp_path)
    with pytest.raises(ConfigError, match=r"configured with a token in NO_SUCH_TOKEN, which is not set"):
        fetch({"D_0.pth": DIGEST}, [Source(one.url, "NO_SUCH_TOKEN")], tmp_path)


def test_a_configured_base_model_is_fetched_by_its_command(
    servers: tuple[Server, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"folder": str(tmp_path / "base"), "files": {"G_0.pth": DIGEST}, "sources": [{"url": servers[0].url}]}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(PUBLISHED))
    with pytest.raises(ConfigError, match=r"config\.json has no train\.base_model\.files to fetch"):
        main(["--config", str(config)])
    config.write_text(json.dumps(PUBLISHED | {"train": {"base_model": base}}))
    main(["--config", str(config)])
    assert capsys.readouterr().out == f"{tmp_path / 'base' / 'G_0.pth'}\n"
    assert (tmp_path / "base" / "G_0.pth").read_bytes() == CONTENT
