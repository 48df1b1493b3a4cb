"""Monotonic rational-quadratic splines with linear tails (Durkan et al. 2019, "Neural Spline Flows", section 3.1).

Every value passes through the same arithmetic, and `torch.where` chooses between spline and tail: there is no indexing
by masks and no writing in place, so the same code runs in every export format. Everything is float32, because bins are
chosen by comparing sums of a softmax.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-3
"""Smallest width and height of a bin (as a share of the interval) and smallest slope at a knot."""
TAIL_SLOPE = math.log(math.exp(1.0 - SMALLEST) - 1.0)
"""The value for which softplus gives slope 1 at the outer knots, where the spline meets the identity."""


def spline(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    slopes: Tensor,
    bound: float,
    inverse: bool,
    smallest: float = SMALLEST,
    tail_slope: float = TAIL_SLOPE,
) -> tuple[Tensor, Tensor]:
    """Return the spline (or its inverse) at `x` and the logarithm of its slope there, float32, both shaped like `x`.

    Outside -bound..bound it is the identity.

    Args:
        widths, heights: sizes of the bins, unnormalised, `[..., bins]`.
        slopes: slopes at the inner knots, unnormalised, `[..., bins - 1]`.
    """
    x, slopes = x.float(), slopes.float()
    inside = (x >= -bound) & (x <= bound)
    # Values outside are computed at the border, so that neither they nor their gradients can be infinite.
    at = x.clamp(-bound, bound)
    left, width = _knots(widths, bound, smallest)
    bottom, height = _knots(heights, bound, smallest)
    edge = torch.full_like(slopes[..., :1], tail_slope)
    slope = smallest + F.softplus(torch.cat((edge, slopes, edge), dim=-1))

    starts = bottom if inverse else left
    chosen = (at[..., None] >= starts[..., 1:]).sum(dim=-1, keepdim=True)
    left, width = left.gather(-1, chosen)[..., 0], width.gather(-1, chosen)[..., 0]
    bottom, height = bottom.gather(-1, chosen)[..., 0], height.gather(-1, chosen)[..., 0]
    slope_left = slope[..., :-1].gather(-1, chosen)[..., 0]
    slope_right = slope[..., 1:].gather(-1, chosen)[..., 0]

    mean = height / width
    bend = slope_left + slope_right - 2 * mean
    if inverse:
        # The quadratic of equations 6 to 8; this form of its root has no cancellation.
        above = at - bottom
        a = height * (mean - slope_left) + above * bend
        b = height * slope_left - above * bend
        c = -mean * above
        position = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0.0).sqrt())
    else:
        position = (at - left) / width
    both = position * (1 - position)
    below = mean + bend * both
    if inverse:
        value = position * width + left
    else:
        value = bottom + height * (mean * position.square() + slope_left * both) / below
    rise = mean.square() * (slope_right * position.square() + 2 * mean * both + slope_left * (1 - position).square())
    log_slope = rise.log() - 2 * below.log()
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, value, x), torch.where(inside, log_slope, 0.0)


def _knots(unnormalised: Tensor, bound: float, smallest: float) -> tuple[Tensor, Tensor]:
    """Return the start and the width of each bin of -bound..bound, both `[..., bins]`."""
    bins = unnormalised.shape[-1]
    shares = smallest + (1 - smallest * bins) * torch.softmax(unnormalised.float(), dim=-1)
    inner = 2 * bound * torch.cumsum(shares, dim=-1)[..., :-1] - bound
    edge = torch.full_like(inner[..., :1], bound)
    knots = torch.cat((-edge, inner, edge), dim=-1)
    return knots[..., :-1], knots[..., 1:] - knots[..., :-1]
