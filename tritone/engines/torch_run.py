"""The settings of a torch computation: device, threads, and half precision by autocast."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TorchRun:
    """The settings with which modules run.

    Args:
        device: "cpu", "cuda" or "cuda:1".
        threads: of each call on the CPU; None leaves torch's own number.
        fp16: weights stay float32 and autocast computes in float16, except in modules that declare `full_precision`.
    """

    device: str = "cpu"
    threads: int | None = None
    fp16: bool = False

    def placed(self, module: Any) -> Any:
        """Return the module itself on the device; its parts that declare `full_precision` stay out of autocast."""
        if self.fp16:
            for part in module.modules():
                # Stages share modules, so a module may come here twice; a second pair of hooks has no effect.
                if getattr(type(part), "full_precision", False):
                    keep_full(part, self._kind)
        return module.to(self.device)

    def entered(self, array: np.ndarray) -> Any:
        """Return the array as a tensor on the device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Compute inside without gradients, with these threads and in this precision."""
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
    def index(self) -> int:
        """The number of the GPU; 0 for "cuda", and for the CPU, which has none."""
        return int(self.device.partition(":")[2] or 0)

    @property
    def _kind(self) -> str:
        return self.device.partition(":")[0]


def keep_full(module: Any, kind: str) -> None:
    """Keep the module's forward out of autocast: hooks around it turn autocast off and give it float32 inputs."""
    import torch

    # The module may run in several threads, and inside another one that is kept out too.
    entered = threading.local()

    def enter(_module: Any, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        context = torch.autocast(kind, enabled=False)
        context.__enter__()
        entered.contexts = [*getattr(entered, "contexts", ()), context]
        return tuple(map(full, values)), {name: full(value) for name, value in named.items()}

    def leave(_module: Any, _values: Any, _result: Any) -> None:
        entered.contexts.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter, with_kwargs=True)
    module.register_forward_hook(leave, always_call=True)


def full(value: Any) -> Any:
    """Return a float16 tensor as float32, anything else as it is."""
    import torch

    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float16 else value
