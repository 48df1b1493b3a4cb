"""A toy family for the tests of exporters: one stage with everything an exporter can get wrong, and a tiny LM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tritone.build import files, hashes, manifest
from tritone.calls import FilesRead
from tritone.export.onnx_file import load, save
from tritone.export.to_onnx import scratch
from tritone.lm.description import CausalLm, NoLm
from tritone.lm.protocols import Llm
from tritone.stage import Axis, Family, Scaled, Stage, Tensor

BATCH = Axis("batch", 1, 1, 4)
FRAMES = Axis("frames", 1, 20, 60)
PAST = Axis("past", 0, 6, 12)
NEXT = Axis("next_past", 0, 6, 12)


class Smooth(torch.nn.Module):
    """Running mean over the kept past and a projection, doubled in rate: wrong weights or a baked size change it."""

    def __init__(self, keep: int = 12) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3, 3, generator=generator))
        self.keep = keep

    def forward(self, x: torch.Tensor, x_len: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        real = torch.arange(x.shape[2])[None] < x_len[:, None]
        both = torch.cat((state, x * real[:, None].to(x.dtype)), dim=2)
        mixed = torch.einsum("oc,bcf->bof", self.weight, both)
        y = (mixed - mixed.mean(dim=2, keepdim=True))[:, :, -x.shape[2] :]
        return y.repeat_interleave(2, dim=2), both[:, :, -self.keep :]


class Baked(Smooth):
    """A module with one length turned into a Python number, as careless code does under a tracer."""

    def forward(self, x: torch.Tensor, x_len: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, after = super().forward(x, x_len, state)
        return y[:, :, : 2 * int(torch.tensor(x.shape[2]))], after


def worse() -> Smooth:
    """Return the module with one weight off by a thousandth of the largest."""
    module = Smooth()
    with torch.no_grad():
        module.weight[0, 0] += 1e-2
    return module


def toy_stage(module: torch.nn.Module | None = None, **changes: Any) -> Stage:
    """Return the stage `smooth`; keyword arguments replace its fields."""
    values: dict[str, Any] = {
        "name": "smooth",
        "inputs": (
            Tensor("x", "float32", (BATCH, 3, FRAMES)),
            Tensor("x_len", "int32", (BATCH,), length_of=FRAMES),
            Tensor("state", "float32", (BATCH, 3, PAST)),
        ),
        "outputs": (
            Tensor("y", "float32", (BATCH, 3, Scaled(2, FRAMES))),
            Tensor("next_state", "float32", (BATCH, 3, NEXT)),
        ),
        "build": lambda: (module or Smooth()).eval(),
    }
    return Stage(**(values | changes))


def toy_llm(head: int = 40, rows: int = 60, positions: int = 96) -> CausalLm:
    """Return a random two-layer Qwen2 whose embedding has more rows than its head, which has a bias."""

    def merged() -> tuple[Any, torch.Tensor]:
        from transformers import Qwen2Config, Qwen2ForCausalLM

        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=rows, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
        )  # fmt: skip
        model = Qwen2ForCausalLM(config).eval()
        with torch.no_grad():
            model.lm_head.weight.normal_(0, 0.3)
        return model, torch.linspace(-3, 3, head)

    def no_torch(_how: object) -> Llm:
        raise NotImplementedError("the toy language model has no session on torch")

    return CausalLm(
        "llm", head, 1, {"stop_ids": (37, 38, 39), "positions": positions}, lambda: merged()[0], no_torch, merged
    )


def weights_apart(build: Path, key: str) -> None:
    """Give an ONNX file of a build folder a data file, as stages of gigabytes have, and record it as if built so."""
    path = build / key
    with files.locked(build):
        with scratch(path) as part:
            save(load(path), part, largest=0)
        entry = manifest.read_manifest(build)[key]
        manifest.record(build, key, replace(entry, sha256=hashes.Hashes().tree(path), data=True))


def silent(*_arguments: object) -> Iterator[np.ndarray]:
    """Return a `synthesize` that says nothing."""
    return iter(())


def toy_family(stage: Stage | None = None, llm: CausalLm | None = None) -> Family:
    """Return a family of that stage and language model."""
    stages, files = (stage or toy_stage(),), FilesRead(("net.pt",), ("spk2info.pt",))
    return Family("toy", stages, llm or NoLm(), (), (), silent, files=lambda: files)
