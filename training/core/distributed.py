"""Data-parallel training under `torchrun`: gradients are averaged explicitly, for any losses and optimisers.

Every process holds the same networks and sees its own share of each epoch's batches. `update` is the one place
gradients are exchanged; outside `torchrun` everything here is a no-op.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from tritone.errors import TritoneError

PATIENCE = timedelta(minutes=30)
"""The time that other processes wait for rank 0 while it evaluates or writes a checkpoint."""


class NotFinite(TritoneError):
    """A loss or its gradients are NaN or infinite."""


def start(device: torch.device) -> torch.device:
    """Return this process's device; join the process group under `torchrun` (nccl on GPUs, gloo on CPUs)."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def rank() -> int:
    """Return this process's number, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together, 1 when alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def update(
    loss: Tensor, *optimizers: Optimizer, clip: float | None = None, scaler: torch.amp.GradScaler | None = None
) -> float:
    """Return the norm of the gradients (before clipping) after one step of the optimisers on `loss`.

    Clears these optimisers' gradients, runs backward, averages them over the processes, clips them together and steps.
    Gradients of parameters outside the optimisers are left as backward computed them. A `scaler` (float16) keeps small
    gradients from vanishing and skips a step that overflowed; the caller calls its `update` once per batch.

    Raises:
        NotFinite: the averaged gradients are not finite, without a scaler; no parameter has changed.
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    (loss if scaler is None else scaler.scale(loss)).backward()
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    if world_size() > 1:
        for p in parameters:  # a branch that one rank skips must still take part in the sum
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        average_gradients(parameters)
    if scaler is not None:
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip if clip is not None else float("inf"))
    if scaler is None and not math.isfinite(norm):
        raise NotFinite(f"the loss is {float(loss.detach()):g} and its gradients' norm {float(norm):g}")
    for optimizer in optimizers:
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
    return float(norm)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, in one message."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    offset = 0
    for g in gradients:
        g.copy_(flat[offset : offset + g.numel()].view_as(g))
        offset += g.numel()


def mean(scalars: dict[str, float], device: torch.device) -> dict[str, float]:
    """Return each scalar averaged over the processes (all must report the same names)."""
    if world_size() == 1 or not scalars:
        return scalars
    values = torch.tensor([scalars[name] for name in sorted(scalars)], dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(sorted(scalars), (values / world_size()).tolist(), strict=True))


def largest(values: list[float], device: torch.device) -> list[float]:
    """Return the element-wise maximum over the processes, by which they agree on stopping and elapsed time."""
    if world_size() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.tolist()


def broadcast(networks: Mapping[str, nn.Module]) -> None:
    """Give every process rank 0's parameters and buffers."""
    if world_size() > 1:
        for network in networks.values():
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, 0)


def check_equal(networks: Mapping[str, nn.Module], device: torch.device) -> None:
    """Raise when the processes' parameters differ, which a step without `update` causes."""
    if world_size() == 1:
        return
    for name, network in networks.items():
        total = sum(float(p.detach().double().sum()) for p in network.parameters())
        low, high = largest([-total, total], device)
        if -low != high:
            raise RuntimeError(
                f"network {name!r} differs between processes (parameter sums {-low} and {high}): "
                "its recipe must change parameters through training.core.distributed.update"
            )


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()
