"""Checkpoints the tests run on: the tiny v2 one whose numbers are known, written once per session."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for helpers shared by test files, such as golden_weights

from support.golden_weights import BACKBONE, GOLDEN, tiny_state

from benchmarks.cosyvoice.random_checkpoint import write_byte_tokenizer


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which a single test does not need
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run in several processes, a file's tests share one; all server tests do, for they share a server."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/server" if nodeid.startswith("tests/server/") else nodeid.split("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session")
def tiny_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint of the v1 layout, which has no backbone but a vocabulary file of Whisper's."""
    from support.front_helpers import write_whisper_vocabulary

    directory = write_networks(tmp_path_factory.mktemp("checkpoints") / "tiny_v1", 1)
    write_whisper_vocabulary(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official-layout directory with the tiny weights (read-only by agreement; copy it to change it)."""
    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny_v2", 2)


@pytest.fixture(scope="session")
def tiny_v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the v3 layout."""
    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny_v3", 3)


def write_tiny(directory: Path, version: int) -> Path:
    """Return the directory, filled with a tiny checkpoint of a version that has a Qwen2 backbone."""
    write_byte_tokenizer(directory / "CosyVoice-BlankEN")
    (directory / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps(BACKBONE))
    return write_networks(directory, version)


def write_networks(directory: Path, version: int) -> Path:
    """Return the directory, filled with all that a tiny checkpoint has but its text tokenizer."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    yaml = f"cosyvoice{version if version > 1 else ''}.yaml"
    shutil.copyfile(GOLDEN / f"cosyvoice_v{version}" / yaml, directory / yaml)
    shutil.copyfile(GOLDEN / "cosyvoice_v2" / "campplus.onnx", directory / "campplus.onnx")
    for name in ("llm", "flow", "hift"):
        torch.save(tiny_state(name, f"v{version}"), directory / f"{name}.pt")
    rng = np.random.default_rng(0)
    voices = {name: {"embedding": torch.from_numpy(rng.standard_normal((1, 192), np.float32))} for name in ("a", "b")}
    torch.save(voices, directory / "spk2info.pt")
    return directory
