"""Where and how torch computes: device, threads, and half precision by autocast."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TorchRun:
    """How modules are run.

    Args:
        device: "cpu", "cuda" or "cuda:1".
        threads: of each call on the CPU; None leaves torch's own number.
        fp16: weights stay float32 and autocast computes in float16, but for modules that declare `full_precision`.
    """

    device: str = "cpu"
    threads: int | None = None
    fp16: bool = False

    def placed(self, module: Any) -> Any:
        """Return the module itself on the device, its delicate parts outside autocast."""
        if self.fp16:
            for part in module.modules():
                # Stages share modules; an instance that already has a forward of its own was here before.
                if getattr(type(part), "full_precision", False) and "forward" not in vars(part):
                    part.forward = self._in_full(part.forward)
        return module.to(self.device)

    def entered(self, array: np.ndarray) -> Any:
        """Return the array as a tensor on the device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Without gradients, with these threads, in this precision."""
        import torch

        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode(), torch.autocast(self._kind, torch.float16, enabled=self.fp16):
                yield
        finally:
            if self.threads is not None:
                torch.set_num_threads(before)

    @property
    def _kind(self) -> str:
        return self.device.partition(":")[0]

    def _in_full(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        def full(value: Any) -> Any:
            return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float16 else value

        def run(*values: Any, **named: Any) -> Any:
            with torch.autocast(self._kind, enabled=False):
                return forward(*map(full, values), **{name: full(value) for name, value in named.items()})

        return run
