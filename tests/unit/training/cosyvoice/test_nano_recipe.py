"""The whole recipe, tiny: one command yields a complete directory that loads strictly; a second trains nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from training import __main__ as command_line
from training.cosyvoice import recipe as cosyvoice
from tritone.errors import ConfigError
from tritone.families.cosyvoice.checkpoint.folder import SPEAKER_EMBEDDER, CosyVoiceCheckpoint
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.voices.speakers import read_voices

ROOT = Path(__file__).parents[4]
TEXT = ["The {0} {1} sat on the {2} {3}.", "We never saw a {0} {2} near the {1} {3}.", "Give the {3} a {0} {1} today."]
WORDS = [
    ["old", "red", "small", "quiet"],
    ["horse", "table", "doctor", "river"],
    ["green", "wide", "empty"],
    ["hill", "boat"],
]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "training", "cosyvoice", "--smoke", "--runs", str(folder / "runs"), "--parallel", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line += ["--text", str(folder / "texts"), "--out", str(folder / "checkpoint")]
    return subprocess.run(line, capture_output=True, text=True, timeout=590, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    sentences = {
        t.format(a, b, c, d) for t in TEXT for a in WORDS[0] for b in WORDS[1] for c in WORDS[2] for d in WORDS[3]
    }
    (folder / "texts").write_text("\n%\n".join(sorted(sentences)))
    done = run(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="Debian's flite is not installed")


@needs_flite
@pytest.mark.timeout(600)
def test_the_directory_is_complete_and_loads_strictly(smoke: Path) -> None:
    from tritone.checkpoint.weights import load_strict
    from tritone.families.cosyvoice.flow.v2.network import Flow
    from tritone.families.cosyvoice.lm.v2.network import load_lm
    from tritone.families.cosyvoice.vocoder.hift import Hift

    checkpoint = CosyVoiceCheckpoint(smoke / "checkpoint")
    load_strict(Flow(checkpoint.config.flow), checkpoint.state("flow"), "flow.pt")
    load_strict(Hift(checkpoint.config.hift), checkpoint.state("hift"), "hift.pt")
    assert load_lm(checkpoint).config == checkpoint.config.lm
    voices = read_voices(checkpoint.dir)
    assert voices.names == ["awb", "kal16", "rms", "slt"]
    front = TextFrontend(checkpoint.dir)
    assert len(front.encode_prompt(voices.get("slt").prompt_text or "")) == 2
    session = onnxruntime.InferenceSession(str(checkpoint.path(SPEAKER_EMBEDDER)))
    assert [node.name for node in session.get_inputs()] == ["input"]
    assert session.run(None, {"input": np.zeros((1, 77, 80), np.float32)})[0].shape == (1, 192)
    card = (checkpoint.dir / "MODEL_CARD.md").read_text()
    assert "| all | 60 |" in card and "| language model (phones to speech tokens) | 5 |" in card


@needs_flite
@pytest.mark.timeout(600)
def test_a_second_run_trains_nothing(smoke: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (smoke / "runs").rglob("*.pt")}
    done = run(smoke)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p: p.stat().st_mtime_ns for p in (smoke / "runs").rglob("*.pt")} == before


@needs_flite
def test_runs_on_replaced_tokens_are_refused(smoke: Path, tmp_path: Path) -> None:
    store = tmp_path / "tokens"
    store.mkdir()
    (store / "about.json").write_text("{}")
    os.utime(store / "about.json", (time.time() + 60,) * 2)
    with pytest.raises(
        ConfigError, match=r"lm was trained on other speech tokens than those in .*tokens; delete the run"
    ):
        cosyvoice.check_not_older(smoke / "runs" / "lm", store)


def test_limits() -> None:
    assert cosyvoice.read_limits(["vocoder=90", "lm=2.5"]) == {"vocoder": 90, "lm": 2.5}
    for wrong in ("vocoder", "codec=3", "lm=soon"):
        with pytest.raises(
            ConfigError, match=rf"--limit {wrong}: expected RUN=MINUTES, where RUN is one of tokenizer, "
        ):
            cosyvoice.read_limits([wrong])


def test_command_line_of_a_run(tmp_path: Path) -> None:
    args = command_line.parse(["cosyvoice", "--processes", "2", "--seed", "5", "--device", "cpu"])
    line = " ".join(cosyvoice.command("flow", args, tmp_path, Path("data"), {"flow": 3.0}, threads=1))
    assert "torch.distributed.run --standalone --nproc_per_node=2 -m training cosyvoice_flow" in line
    assert (
        line.endswith("--seed 5 --eval-every 500 --save-every 500 --minutes 3.0") and "--device cpu --threads 1" in line
    )


def test_every_recipe_is_on_the_command_line() -> None:
    names = {"cosyvoice", *(f"cosyvoice_{run}" for run in cosyvoice.FIRST + cosyvoice.THEN)}
    assert names <= set(command_line.RECIPES)
    assert command_line.parse(["cosyvoice_lm"]).out == Path("runs/lm")
