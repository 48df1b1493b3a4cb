"""Tiny Bert-VITS2 checkpoints whose text encoder takes an emotion, or whose speaker comes from a recording."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from support.bert_vits2.folder import write_tiny
from support.bert_vits2.tiny import tiny_config
from support.key_weights import key_state
from tritone.families.bert_vits2.config import BertVits2Config
from tritone.families.bert_vits2.networks.generator import Generator


def config_of(version: str = "2.3", n_speakers: int = 5, saved: bool = True) -> BertVits2Config:
    tiny = tiny_config()
    data = dataclasses.replace(tiny.data, n_speakers=n_speakers)
    return dataclasses.replace(tiny, version=version, data=data, codebook_saved=saved)


def generator_of(config: BertVits2Config) -> Generator:
    """Return a generator with the weights of the golden numbers."""
    generator = Generator(config)
    generator.load_state_dict(_state(config.version, config.data.n_speakers, config.codebook_saved))
    return generator.eval()


@functools.cache
def _state(version: str, n_speakers: int, saved: bool) -> dict[str, torch.Tensor]:
    with torch.inference_mode(False):
        return key_state(Generator(config_of(version, n_speakers, saved)).state_dict())


def write(folder: Path, config: BertVits2Config, stated: str | None = None, **data: Any) -> Path:
    """Write a checkpoint of that version to the folder, and return it.

    `stated` is the version that config.json says, by default the true one; "" leaves it out.
    """
    write_tiny(folder, n_speakers=config.data.n_speakers, **data)
    document = json.loads((folder / "config.json").read_text())
    document["version"] = config.version if stated is None else stated
    if stated == "":
        del document["version"]
    (folder / "config.json").write_text(json.dumps(document))
    state = _state(config.version, config.data.n_speakers, config.codebook_saved)
    torch.save({"model": state, "iteration": 3, "optimizer": None, "learning_rate": 1e-4}, folder / "G_300.pth")
    return folder


def embedding(numbers: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, numbers)).astype(np.float32)
