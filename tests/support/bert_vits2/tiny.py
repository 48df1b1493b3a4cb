"""The tiny Bert-VITS2 generator behind the golden numbers, its inputs, and its published keys."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from support.golden_weights import GOLDEN
from support.key_weights import key_state
from tritone.families.bert_vits2.config import BertVits2Config, read_config
from tritone.families.bert_vits2.networks.generator import Generator, Text

FOLDER = GOLDEN / "bert_vits2"


def tiny_config() -> BertVits2Config:
    return read_config(FOLDER / "config_tiny.json")


def tiny_generator() -> Generator:
    """Return a new generator with the weights of the golden numbers, without dropout."""
    generator = Generator(tiny_config())
    generator.load_state_dict(key_state(generator.state_dict()), strict=True)
    for module in generator.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return generator.eval()


def arrays(name: str, prefix: str = "") -> dict[str, Tensor]:
    """Return tensors of `<name>.npz` whose names begin with `prefix`, which is dropped."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return {k.removeprefix(prefix): torch.from_numpy(stored[k]) for k in stored.files if k.startswith(prefix)}


def tiny_text(rows: int = 2) -> Text:
    """Return the text of the golden numbers: two rows of 13 and 9 phonemes."""
    stored = arrays("stages")
    names = ("x", "x_lengths", "tone", "language", "bert", "ja_bert", "en_bert")
    return Text(*(stored[name][:rows] for name in names))


def cut(text: Text, row: int) -> Text:
    """Return one row alone, without its padding."""
    length = int(text.lengths[row])
    fields = (field[row : row + 1, ..., :length] for field in (text.x, *text[2:]))
    return Text(next(fields), text.lengths[row : row + 1], *fields)


@functools.cache
def manifest(name: str) -> dict[str, list[int]]:
    """Return the published keys with their shapes; `name` is "full", "full_gin256", "full_refenc" or "tiny"."""
    content: dict[str, dict[str, list[int]]] = json.loads(gzip.decompress((FOLDER / "manifests.json.gz").read_bytes()))
    return content[name]


def replay(*noises: Tensor) -> Callable[[tuple[int, ...]], Tensor]:
    """Return `draw(shape)`, which returns the stored noises in order."""
    waiting = iter(noises)

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = next(waiting)
        assert tuple(noise.shape) == tuple(shape)
        return noise

    return draw


def slow_path(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the monotonic path of the largest sum, cell by cell: small inputs only. Equal neighbours stay."""
    path = torch.zeros_like(scores)
    for row in range(scores.shape[0]):
        frames, phones = int(mask[row, :, 0].sum()), int(mask[row, 0].sum())
        best = np.full((frames + 1, phones + 1), -np.inf, np.float32)
        best[0, 0] = 0
        value = scores[row].numpy()
        for y in range(frames):
            for x in range(phones):
                best[y + 1, x + 1] = value[y, x] + max(best[y, x + 1], best[y, x])
        x = phones - 1
        for y in range(frames - 1, -1, -1):
            path[row, y, x] = 1
            if x > 0 and best[y, x + 1] < best[y, x]:
                x -= 1
    return path


def peak_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest expected magnitude."""
    assert found.shape == expected.shape
    return float((found.detach() - expected).abs().max() / expected.abs().max())
