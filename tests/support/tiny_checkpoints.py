"""Writes the tiny CosyVoice checkpoints behind the golden numbers, in their official layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from benchmarks.cosyvoice.random_checkpoint import write_byte_tokenizer
from support.golden_weights import BACKBONE, GOLDEN, tiny_state


def write_tiny(directory: Path, version: int) -> Path:
    """Return the directory, filled with a tiny checkpoint of a version that has a Qwen2 backbone."""
    write_byte_tokenizer(directory / "CosyVoice-BlankEN")
    (directory / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps(BACKBONE))
    return write_networks(directory, version)


def write_networks(directory: Path, version: int) -> Path:
    """Return the directory, filled with all that a tiny checkpoint has but its text tokenizer."""
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
