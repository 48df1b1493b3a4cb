"""The networks that speak can be scripted, and traced into graphs that hold at other sizes than those traced."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2.emotional import config_of, generator_of
from support.bert_vits2.tiny import peak_error, tiny_generator
from torch import Tensor

from tritone.nn.precision import halved
from tritone.nn.stft import length_mask
from tritone.nn.weight_norm import fold_weight_norm

SIZES = ((2, 12), (1, 1), (3, 5), (1, 40))


def text_inputs(batch: int, length: int) -> tuple[Tensor, ...]:
    streams = (torch.randn(batch, 1024, length) for _ in range(3))
    ids = (torch.randint(0, rows, (batch, length)) for rows in (112, 12, 3))
    x, tone, language = ids
    return (x, mask(batch, length), tone, language, *streams, torch.randn(batch, 12, 1))


def mask(batch: int, length: int) -> Tensor:
    return length_mask(lengths(batch, length), torch.zeros(1, length))


def lengths(batch: int, length: int) -> Tensor:
    return torch.tensor([length, *(max(1, length - 3),) * (batch - 1)])


def phones(batch: int, length: int, *more: int) -> tuple[Tensor, ...]:
    extra = (torch.randn(batch, channels, length) for channels in more)
    return (torch.randn(batch, 8, length), mask(batch, length), *extra, torch.randn(batch, 12, 1))


def cluster_inputs(batch: int, length: int) -> tuple[Tensor, ...]:
    return (*text_inputs(batch, length), torch.randn(batch, 1024), torch.arange(batch) - 1)


def prompt_inputs(batch: int, length: int) -> tuple[Tensor, ...]:
    return (*text_inputs(batch, length), torch.randn(batch, 512))


def heard_inputs(batch: int, length: int) -> tuple[Tensor, ...]:
    return (torch.rand(batch, 65, length), lengths(batch, length))


PARTS: dict[str, Callable[[int, int], tuple[Tensor, ...]]] = {
    "enc_p": text_inputs,
    "enc_p 2.1": cluster_inputs,
    "enc_p 2.2": prompt_inputs,
    "ref_enc": heard_inputs,
    "sdp": lambda batch, length: phones(batch, length, 2),
    "dp": phones,
    "flow": phones,
    "dec": lambda b, n: (torch.randn(b, 8, n), torch.randn(b, 12, 1), lengths(b, n)),
}


def part(name: str) -> torch.nn.Module:
    """Return the part; what is drawn after it is the same in every run.

    One draw in 25 is half's undoing in a spline.
    """
    torch.manual_seed(0)
    name, _, version = name.partition(" ")
    special = generator_of(config_of(version or "2.3", 0)) if version or name == "ref_enc" else tiny_generator()
    return getattr(fold_weight_norm(special), name)  # type: ignore[no-any-return]


def results(found: Any) -> list[Tensor]:
    return [torch.as_tensor(value) for value in found] if isinstance(found, list | tuple) else [found]


@pytest.mark.parametrize("name", PARTS)
@torch.inference_mode()
def test_scripted_it_computes_the_same(name: str) -> None:
    module = part(name)
    scripted = torch.jit.script(module)
    for batch, length in SIZES:
        inputs = PARTS[name](batch, length)
        for found, expected in zip(results(scripted(*inputs)), results(module(*inputs)), strict=True):
            assert peak_error(found, expected) <= 1e-5


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_traced_into_a_graph_it_computes_the_same_at_every_size(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    module, traced = part(name), PARTS[name](*SIZES[0])
    names = [f"input_{index}" for index in range(len(traced))]
    axes = {key: {0: "batch"} | ({value.ndim - 1: "length"} if value.shape[-1] == SIZES[0][1] else {})
            for key, value in zip(names, traced, strict=True)}  # fmt: skip
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, traced, file, input_names=names, dynamic_axes=axes, opset_version=18, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    given = {value.name for value in session.get_inputs()}
    assert given == set(names)
    for batch, length in SIZES:
        inputs = PARTS[name](batch, length)
        found = session.run(None, {key: np.asarray(value) for key, value in zip(names, inputs, strict=True)})
        for value, expected in zip(results(found), results(module(*inputs)), strict=True):
            assert peak_error(value, expected) <= 1e-4


@pytest.mark.parametrize("name", PARTS)
@torch.inference_mode()
def test_in_half_precision_it_stays_close(name: str) -> None:
    module = part(name)
    inputs = PARTS[name](2, 30)
    half = [value.half() if value.is_floating_point() else value for value in inputs]
    for found, expected in zip(results(halved(module)(*half)), results(module(*inputs)), strict=True):
        assert peak_error(found.float(), expected) <= 2e-2
