"""`make say` hands on what a person typed, character for character, and runs nothing in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tritone import serve
from tritone.client import command

ROOT = Path(__file__).parents[3]
RECORDER = """#!/bin/sh
[ "$1" = -c ] && exit 0
for word in "$@"; do printf '%s\\0' "$word"; done > "$RECORD"
"""
TEXTS = [
    "It costs $5 today.", "I paid $20.50 and $30.", "$(shell touch ran)", "${shell touch ran}", "$$HOME $PATH $HOME",
    "`touch ran`", "$(touch ran)", 'She said "stop"; it\'s 5 # o\'clock', "a\\b \\$x \\", "50% off & more | less > ran",
    "-5 degrees", "--speaker", "* ? [a-z] ~", "=", "a = b := c", "声音 “déjà vu”", "!history $(TEXT)",
    "(unbalanced ) ${",
]  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with this Makefile, whose environment is complete and has a Python that records its arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "docker").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "docker" / "install_torch.py").touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(RECORDER)
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # `--run .venv/bin/python` is looked for when the options are read
    for index, name in enumerate((".torch", ".serve")):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (time.time() + 10 + index,) * 2)
    return tmp_path


def make(checkout: Path, *words: str, **variables: str) -> list[str]:
    record = checkout / "record"
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    env |= {"RECORD": str(record), **variables}
    subprocess.run(["make", "-s", *words], cwd=checkout, env=env, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return record.read_bytes().decode().split("\0")[:-1]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_spoken_as_it_was_typed(checkout: Path, text: str) -> None:
    words = make(checkout, "say", f"TEXT={text}")
    assert words[-2:] == ["--", text]
    run = serve.parse(words[2:]).run
    assert command.parser().parse_args(run[2:]).text == text
    assert make(checkout, "say", TEXT=text)[-1] == text
    assert not (checkout / "ran").exists()


def test_speaker_file_and_checkpoint_are_as_typed(checkout: Path) -> None:
    odd = "a $1 (b) 'c' $(shell touch ran)"
    words = make(checkout, "say", f"SPEAKER={odd}", f"OUT={odd}.wav", f"CHECKPOINT={odd}/x", "GRPC_PORT=18001")
    assert words[:3] == ["-m", "tritone.serve", f"{odd}/x"]
    assert f"--speaker={odd}" in words and f"--output={odd}.wav" in words and "127.0.0.1:18001" in words
    assert not (checkout / "ran").exists()


def test_defaults_are_those_of_the_nano_voice(checkout: Path) -> None:
    words = make(checkout, "say")
    assert words[2] == "checkpoints/nano" and words[-1] == "The birch canoe slid on the smooth planks."
    assert "--speaker=rms" in words and "--output=hello.wav" in words
