"""`python -m training bert_vits2` on seconds of sound: what it leaves, kills, several processes, published crashes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2 import tiny_training as helpers
from torch import Tensor

from training.__main__ import parse
from training.bert_vits2 import build_run, recipe
from training.bert_vits2.checkpoints import incomplete, sets
from tritone.errors import CheckpointError, ConfigError
from tritone.families.bert_vits2.config import read_config
from tritone.families.bert_vits2.networks.weights import load_generator

SCRIPT = str(Path(helpers.__file__))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, like the started processes: sums of two threads have other roundings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_run, "MultiPeriodDiscriminator", helpers.small_judges)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, helpers.write_corpus(folder)


def train(config: Path, out: Path, *options: str) -> int:
    return recipe.main(parse(["bert_vits2", "--config", str(config), "--out", str(out), "--device", "cpu", *options]))


def weights(out: Path, names: tuple[str, ...] = ("G", "D", "DUR")) -> dict[str, Tensor]:
    """Return all weights of the newest set, by network and key."""
    step, folder = sets(out)[-1]
    found = {name: torch.load(folder / f"{name}_{step}.pth", weights_only=True)["model"] for name in names}
    return {f"{name}.{key}": value for name, model in found.items() for key, value in model.items()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


@pytest.fixture(scope="module")
def whole(corpus: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps from beginning to end, in epochs of five."""
    patch = pytest.MonkeyPatch()
    patch.setattr(build_run, "MultiPeriodDiscriminator", helpers.small_judges)
    out = tmp_path_factory.mktemp("whole")
    assert train(corpus[0] / "config.json", out, "--steps", "12") == 12
    patch.undo()
    return out


def test_a_run_leaves_sets_records_and_pictures(corpus: tuple[Path, dict[str, Any]], whole: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = sets(whole)[-1][1]
    config = read_config(folder / "config.json")
    generator = load_generator(folder / "G_12.pth", config)
    assert generator.enc_q is not None and config.model.hidden_channels == 8
    start = json.loads((whole / "starts.jsonl").read_text())
    assert start["config"]["train"]["batch_size"] == 2 and len(start["git"]["commit"]) == 40
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert rows[-1]["mel"] < rows[0]["mel"] and rows[-1]["mel_from_text"] < rows[0]["mel_from_text"], "it learns"
    events = EventAccumulator(str(whole / "tensorboard"), size_guidance={"images": 0, "audio": 0}).Reload()
    tags = events.Tags()
    assert {"train/G/loss", "train/D/norm", "train/DUR/loss", "train/rate_G", "validation/mel"} <= set(tags["scalars"])
    assert {"alignment/0", "spoken/0/sdp_0", "spoken/0/sdp_1", "recorded/0"} <= set(tags["images"])
    assert {"spoken/0/sdp_0", "spoken/0/sdp_1", "recorded/0"} == set(tags["audio"])
    rate = {e.step: e.value for e in events.Scalars("train/rate_G")}
    assert [rate[step] for step in (1, 5, 6, 11)] == pytest.approx([1e-3, 1e-3, 9e-4, 8.1e-4]), "0.9 an epoch"
    log = (whole / "train.rank0.log").read_text()
    assert "8 of 8 utterances are between 32 and 200 frames" in log and "step 12 epoch 2 DUR/loss=" in log


def test_killed_at_a_random_step_and_resumed_is_bit_identical(
    corpus: tuple[Path, dict[str, Any]], whole: Path, tmp_path: Path
) -> None:
    config, out = corpus[0] / "config.json", tmp_path / "cut"
    target_step = int(np.random.default_rng().integers(2, 10))
    command = [sys.executable, SCRIPT, "bert_vits2", "--config", str(config), "--out", str(out), "--steps", "12"]
    process = subprocess.Popen([*command, "--device", "cpu"], env=helpers.environment(), stderr=subprocess.PIPE)
    log, until = out / "train.rank0.log", time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        if log.exists() and f"step {target_step} " in log.read_text() and sets(out):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, errors[-3000:]
    assert all(not incomplete(folder) for _, folder in sets(out)) and sets(out)[-1][0] < 12
    assert train(config, out, "--steps", "12") == 12
    assert_equal(weights(out), weights(whole))
    assert "resumed at step" in log.read_text() and (out / "starts.jsonl").read_text().count("\n") == 2


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path) -> None:
    document = helpers.write_corpus(tmp_path, equal=True)
    # Some gradients are zero but for rounding (biases of attention keys), of which a tiny eps would make full steps.
    common = {"eval_interval": 3, "save_interval": 3, "eps": 1e-4}
    one = helpers.write_config(tmp_path, document, batch_size=4, **common).rename(tmp_path / "one.json")
    two = helpers.write_config(tmp_path, document, batch_size=2, **common)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", SCRIPT]
    for config, launcher in ((one, [SCRIPT]), (two, torchrun)):
        out = tmp_path / config.stem
        command = [sys.executable, *launcher, "bert_vits2", "--config", str(config), "--out", str(out)]
        environment = helpers.environment() | {"CHANCE": "of rows"}
        done = subprocess.run([*command, "--steps", "3", "--device", "cpu"], env=environment, capture_output=True,
                              text=True, timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    a, b = weights(tmp_path / "one"), weights(tmp_path / "config")
    worst = max((float((a[key] - b[key]).abs().max()), key) for key in a)
    assert worst[0] < 1e-5, worst
    out = tmp_path / "config"
    logs = [(out / f"train.rank{n}.log").read_text() for n in (0, 1)]
    assert all("step 3 epoch" in log for log in logs) and logs[0] != logs[1], "each process logs its own losses"
    metrics = [json.loads((tmp_path / name / "metrics.jsonl").read_text())["mel"] for name in ("one", "config")]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4)


CRASHES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "no workers": ({}, {}, {"workers": 0}),
    "batch of one": ({}, {}, {"batch_size": 1}),
    "no duration discriminator": ({"use_duration_discriminator": False}, {}, {}),
    "no speaker table": ({}, {"n_speakers": 0, "spk2id": {}}, {"workers": 1}),
    "fp16": ({}, {}, {"precision": "fp16"}),
    "published duration loss, nothing held out": ({}, {"validation_files": ""}, {"duration_loss": "published"}),
}


@pytest.mark.parametrize("case", CRASHES)
def test_what_crashed_in_the_published_code_trains(
    corpus: tuple[Path, dict[str, Any]], tmp_path: Path, case: str
) -> None:
    """Two steps, pictures of an evaluation (by the newest matplotlib), a resume, a third step in bf16."""
    model, data, options = CRASHES[case]
    document = json.loads(json.dumps(corpus[1]))
    document["model"] |= model
    document["data"] |= data
    config = helpers.write_config(tmp_path, document, eval_interval=2, **options)
    assert train(config, tmp_path / "out", "--steps", "2") == 2
    assert train(config, tmp_path / "out", "--steps", "3", "--set", "train.precision=bf16") == 3
    names = ("G", "D") if case == "no duration discriminator" else ("G", "D", "DUR")
    assert all(bool(value.isfinite().all()) for value in weights(tmp_path / "out", names).values())
    state = torch.load(tmp_path / "out/step-00000002/state.pt", weights_only=True)
    assert bool(state["extra_state"]["scaler"]) == (case == "fp16"), "a scaler for float16 alone"


def test_wavlm_with_a_batch_of_one(corpus: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    tiny = WavLMConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
                       conv_dim=(4,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)  # fmt: skip
    WavLMModel(tiny).save_pretrained(tmp_path / "wavlm")
    document = json.loads(json.dumps(corpus[1]))
    document["model"]["slm"] = {"model": str(tmp_path / "wavlm"), "hidden": 8, "nlayers": 3, "initial_channel": 4}
    sizes = {"segment_size": 64 * helpers.HOP, "bucket_boundaries": [64, 200], "batch_size": 1}
    config = helpers.write_config(tmp_path, document, wavlm_discriminator=True, **sizes)
    assert train(config, tmp_path / "out", "--steps", "2") == 2
    assert "G/wavlm_adversarial=" in (tmp_path / "out/train.rank0.log").read_text()
    assert any(key.startswith("WD.convs") for key in weights(tmp_path / "out", ("WD",)))


def test_frozen_parameters_stay_and_the_rest_moves(corpus: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    frozen = ["G.enc_p.*bert_proj.*", "G.emb_g.weight", "D.discriminators.0.*"]
    config = helpers.write_config(tmp_path, corpus[1], freeze=frozen)
    train(config, tmp_path / "out", "--steps", "1")
    before = weights(tmp_path / "out")
    train(config, tmp_path / "out", "--steps", "3")
    after = weights(tmp_path / "out")
    still = {key for key in before if torch.equal(before[key], after[key])}
    held = {k for k in before if "bert_proj" in k or "emb_g" in k or k.startswith("D.discriminators.0.")}
    assert len(held) > 8 and held <= still and len(still - held) < 0.2 * len(before)
    step, folder = sets(tmp_path / "out")[-1]
    saved = torch.load(folder / f"G_{step}.pth", weights_only=True)
    generator = sum(key.startswith("G.") for key in before)
    assert len(saved["optimizer"]["param_groups"][0]["params"]) == generator - sum(k.startswith("G.") for k in held)
    config = helpers.write_config(tmp_path, corpus[1], freeze=[])
    with pytest.raises(CheckpointError, match=r"step-0+3: optimizers 'G' does not fit this run: .*parameter group"):
        train(config, tmp_path / "out", "--steps", "4")
    assert train(config, tmp_path / "out", "--steps", "4", "--set", "train.skip_optimizer=true") == 4


def test_a_base_model_starts_a_run(corpus: tuple[Path, dict[str, Any]], whole: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("G", "D"):
        (base / f"{name}_0.pth").write_bytes((sets(whole)[-1][1] / f"{name}_12.pth").read_bytes())
    options = {"base_model": {"folder": str(base)}, "lr": 1e-12, "weight_decay": 0.0, "eps": 1.0}
    config = helpers.write_config(tmp_path, corpus[1], **options)
    assert train(config, tmp_path / "out", "--steps", "1") == 1
    found, target_step = weights(tmp_path / "out"), weights(whole)
    assert max(float((found[k] - target_step[k]).abs().max()) for k in found if not k.startswith("DUR")) < 1e-9
    log = (tmp_path / "out/train.rank0.log").read_text()
    assert "has no DUR_*.pth: DUR starts from fresh weights" in log and "G starts from" in log

    document = json.loads(json.dumps(corpus[1]))
    document["data"]["n_speakers"] = 5
    config = helpers.write_config(tmp_path, document, **options)
    with pytest.raises(CheckpointError, match=r"G_0\.pth .*emb_g\.weight is \[2, 12\] instead of \[5, 12\]"):
        train(config, tmp_path / "five", "--steps", "1")
    train(config, tmp_path / "five", "--steps", "1", "--set", "train.base_model.allow_partial=true")
    log = (tmp_path / "five/train.rank0.log").read_text()
    assert "G_0.pth: 1 keys kept fresh: emb_g.weight" in log and "1 keys not used: emb_g.weight" in log
    (base / "G_0.pth").unlink()
    with pytest.raises(CheckpointError, match=r"base has no G_<number>\.pth to start from; found D_0\.pth\."):
        train(config, tmp_path / "six", "--steps", "1")


def test_changed_settings_are_told_and_take_effect(
    corpus: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = helpers.write_config(tmp_path, corpus[1])
    before = config.read_bytes()
    train(config, tmp_path / "out", "--steps", "1")
    train(config, tmp_path / "out", "--steps", "2", "--set", "train.lr=1e-5")
    assert config.read_bytes() == before, "the configuration is only read"
    assert "the configuration has changed since" in capsys.readouterr().err
    folder = sets(tmp_path / "out")[-1][1]
    assert torch.load(folder / "G_2.pth", weights_only=True)["learning_rate"] == 1e-5
    assert json.loads((folder / "config.json").read_text())["train"]["lr"] == 1e-5
    with pytest.raises(ConfigError, match=r"takes its data and its sizes from --config; leave out --data and --smoke"):
        train(config, tmp_path / "out", "--smoke")


def test_errors_are_in_the_log(corpus: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    config = helpers.write_config(tmp_path, corpus[1], bucket_boundaries=[500, 600])
    with pytest.raises(ConfigError, match=r"no utterance to train on: 0 of 8 .* Change train\.bucket_boundaries"):
        train(config, tmp_path / "out")
    assert "ERROR\ttraining ended with an error" in (tmp_path / "out/train.rank0.log").read_text()
    document = json.loads(json.dumps(corpus[1]))
    document["data"]["training_files"] = ""
    with pytest.raises(ConfigError, match=r"data\.training_files is not set\. Run `python -m training"):
        train(helpers.write_config(tmp_path, document), tmp_path / "out")


def test_utterances_with_fewer_frames_than_phones_are_left_out(tmp_path: Path) -> None:
    document = helpers.write_corpus(tmp_path, utterances=5)
    rows = (tmp_path / "train.list").read_text().splitlines()
    wav, speaker, language, text, *_ = rows[0].split("|")
    phones = ["_", *["ah"] * 100, "_"]
    rows[0] = f"{wav}|{speaker}|{language}|{text}|{' '.join(phones)}|{' '.join('0' * 102)}|1 100 1"
    (tmp_path / "train.list").write_text("\n".join(rows) + "\n")
    assert train(helpers.write_config(tmp_path, document), tmp_path / "out", "--steps", "1") == 1
    assert f"left out: {wav}: " in (tmp_path / "out/train.rank0.log").read_text()
    assert "frames for 205 phones" in (tmp_path / "out/train.rank0.log").read_text()
