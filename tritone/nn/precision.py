"""Half precision, except in modules and inputs that declare that they need float32.

    class Phase(nn.Module):
        full_precision = True                 # its weights stay float32; its inputs are float32
    class Velocity(nn.Module):
        full_precision_inputs = ("t",)        # handed to forward as float32; other inputs come in half

Both are class attributes and have no effect on a module in float32. They serve the formats that still have modules:
TorchScript in fp16, and torch with autocast. A graph has none, so for ONNX, and for the TensorRT plans made from it, a
stage lists the nodes that stay in fp32 by name (`Stage.keep_fp32`, found by bisection). A delicate part needs both.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def halved(module: Module) -> Module:
    """Return a copy with float16 weights and buffers, except below modules that declare `full_precision`."""
    twin = copy.deepcopy(module)
    _halve(twin)
    return twin


def full_precision_inputs(module: nn.Module) -> tuple[str, ...]:
    """Inputs of the module's forward, by name, that stay float32 when its weights are halved."""
    return tuple(getattr(type(module), "full_precision_inputs", ()))


def _halve(module: nn.Module) -> None:
    if getattr(type(module), "full_precision", False):
        return
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half()
    for child in module.children():
        _halve(child)
