"""Convolutions over time as 2-D convolutions: the same numbers, without reshaping in between."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tritone.export.to_2d import to_2d
from tritone.export.to_onnx import quiet, simplified


class Block(nn.Module):
    """A dilated residual block of a vocoder, masked, between an upsampling convolution and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(6, 8, 5, stride=2, padding=2, output_padding=1)
        self.first = nn.Conv1d(8, 8, 3, dilation=3, padding=3)
        self.second = nn.Conv1d(8, 8, 4, padding=1, stride=2)
        self.alpha = nn.Parameter(torch.rand(8, 1) + 0.5)
        self.last = nn.Conv1d(8, 4, 1, groups=2)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.up(x) * mask
        y = self.first(nn.functional.leaky_relu(x, 0.1))
        y = x + y + torch.sin(y * self.alpha).pow(2) / (self.alpha + 1e-9)
        return self.last(self.second(y)), y.mean(-1)


def exported(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: dict[str, dict[int, str]]) -> Any:
    file = io.BytesIO()
    with quiet(), torch.inference_mode():
        torch.onnx.export(
            module.eval(), inputs, file, input_names=["x", "mask"][: len(inputs)], dynamic_axes=dynamic, dynamo=False
        )
    return simplified(onnx.load_from_string(file.getvalue()))


def run(model: Any, **feed: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


@pytest.mark.parametrize("frames", [1, 7, 40])
def test_same_numbers_at_every_length(frames: int) -> None:
    torch.manual_seed(0)
    block = Block()
    shapes = {"x": {0: "b", 2: "t"}, "mask": {0: "b", 2: "2*t"}}
    model = exported(block, (torch.randn(2, 6, 9), torch.ones(2, 1, 18)), shapes)
    turned = to_2d(onnx.ModelProto.FromString(model.SerializeToString()))
    onnx.checker.check_model(turned, full_check=True)
    rng = np.random.default_rng(frames)
    x = rng.standard_normal((3, 6, frames), np.float32)
    mask = (rng.random((3, 1, 2 * frames)) > 0.3).astype(np.float32)
    for before, after in zip(run(model, x=x, mask=mask), run(turned, x=x, mask=mask), strict=True):
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_everything_between_convolutions_follows_them() -> None:
    model = exported(Block(), (torch.randn(2, 6, 9), torch.ones(2, 1, 18)), {"x": {2: "t"}, "mask": {2: "2*t"}})
    names = {node.name for node in model.graph.node if node.op_type != "Constant"}
    turned = to_2d(model)
    kinds = Counter(node.op_type for node in turned.graph.node)
    # In: the input and the mask. Out: the waveform, and what the mean is taken of.
    assert (kinds["Unsqueeze"], kinds["Squeeze"]) == (2, 2)
    assert names <= {node.name for node in turned.graph.node}
    weights = {tensor.name: len(tensor.dims) for tensor in turned.graph.initializer}
    read = [node.input[1] for node in turned.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert [weights[name] for name in read] == [4] * 4


def test_a_graph_without_convolutions_over_time_is_left_alone() -> None:
    model = exported(nn.Conv2d(3, 4, 3), (torch.randn(1, 3, 8, 8),), {"x": {3: "w"}})
    before = model.graph.SerializeToString()
    assert to_2d(model).graph.node == onnx.GraphProto.FromString(before).node
