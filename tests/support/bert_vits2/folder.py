"""A tiny Bert-VITS2 checkpoint on disk, in the published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from support.bert_vits2.tiny import FOLDER, tiny_generator
from tritone.nn.weight_norm import older_layout

SPEAKERS = ("anna", "ben", "chen", "dai", "eri")


def write_tiny(folder: Path, step: int = 300, **data: Any) -> Path:
    """Write `config.json` and `G_<step>.pth` to the folder, and return it.

    `data` replaces keys of the configuration's data section.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = json.loads((FOLDER / "config_tiny.json").read_text())
    document["data"] |= {"spk2id": {name: row for row, name in enumerate(SPEAKERS)}} | data
    (folder / "config.json").write_text(json.dumps(document))
    state = older_layout(tiny_generator().state_dict())
    torch.save({"model": state, "iteration": 3, "optimizer": None, "learning_rate": 1e-4}, folder / f"G_{step}.pth")
    return folder
