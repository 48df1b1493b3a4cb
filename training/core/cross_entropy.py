"""Cross-entropy of a wide linear head computed a few hundred rows at a time, so that all logits are never in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS = 512
"""Rows per piece; at 6.5 k classes its logits take 13 MB, which the allocator reuses instead of mapping anew."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss, since both need the same logits."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
        narrow_weight = weight.to(dtype)
        hidden_grad = torch.empty_like(hidden)
        weight_grad, bias_grad = torch.zeros_like(weight), torch.zeros_like(bias)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), ROWS):
            rows, expected = hidden[start : start + ROWS].to(dtype), target[start : start + ROWS, None]
            logits = (rows @ narrow_weight.T).float().add_(bias)
            log_sum = logits.logsumexp(1, keepdim=True)
            total += (log_sum - logits.gather(1, expected)).sum()
            slope = logits.sub_(log_sum).exp_()
            slope.scatter_add_(1, expected, torch.full_like(log_sum, -1.0))
            bias_grad += slope.sum(0)
            slope = slope.to(dtype)
            hidden_grad[start : start + ROWS] = slope @ narrow_weight
            weight_grad += slope.T @ rows
        ctx.save_for_backward(hidden_grad, weight_grad, bias_grad)
        ctx.count = max(1, len(hidden))
        return total / ctx.count

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        scale = grad_outputs[0] / ctx.count
        hidden_grad, weight_grad, bias_grad = ctx.saved_tensors
        return hidden_grad * scale.to(hidden_grad.dtype), weight_grad * scale, bias_grad * scale, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of `hidden @ weight.T + bias` against `target`, as a scalar float32.

    Args:
        hidden: `[rows, features]`; weight `[classes, features]`, bias `[classes]`, target `[rows]`. Products run in
            autocast's type where autocast is on.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden, weight, bias, target, dtype)
