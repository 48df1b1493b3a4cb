"""Monotonic rational-quadratic splines with linear tails (Durkan et al. 2019, "Neural Spline Flows", section 3.1).

Every value goes through the same arithmetic and `torch.where` chooses between spline and tail, so nothing is indexed by
a mask, nothing is written in place, and the same code runs in every export format. All of it is float32: bins are
found by comparing sums of a softmax.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-3
"""Least width and height of a bin (as a share of the interval) and least slope at a knot."""
TAIL_SLOPE = math.log(math.exp(1.0 - SMALLEST) - 1.0)
"""What softplus turns into slope 1 at the outer knots, where the spline meets the identity."""


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
    """Return the spline (or its inverse) of `x` and the logarithm of its slope there, both in the shape of `x`,
    float32.

    Outside -bound..bound it is the identity.

    Args:
        widths, heights: unnormalised, `[..., bins]`; slopes: of the inner knots, unnormalised, `[..., bins - 1]`.
    """
    x, slopes = x.float(), slopes.float()
    inside = (x >= -bound) & (x <= bound)
    # What is outside is computed at the border, so that neither its value nor its gradient can be infinite.
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
        # The quadratic of the paper's equation 6 to 8, its root written so that nothing cancels.
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
    """Where each bin of -bound..bound starts and how wide it is, both `[..., bins]`."""
    bins = unnormalised.shape[-1]
    shares = smallest + (1 - smallest * bins) * torch.softmax(unnormalised.float(), dim=-1)
    inner = 2 * bound * torch.cumsum(shares, dim=-1)[..., :-1] - bound
    edge = torch.full_like(inner[..., :1], bound)
    knots = torch.cat((-edge, inner, edge), dim=-1)
    return knots[..., :-1], knots[..., 1:] - knots[..., :-1]
