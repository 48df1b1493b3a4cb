"""The spline is a bijection with the slope it says it has, the identity outside its interval, and always finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tritone.families.bert_vits2.networks.spline import spline

BINS, BOUND = 10, 5.0


def shape(*size: int, spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(spread * torch.randn(*size, bins, generator=generator) for bins in (BINS, BINS, BINS - 1))  # type: ignore[return-value]


@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
def test_the_inverse_undoes_the_spline_and_slopes_agree(spread: float) -> None:
    x = torch.linspace(-6.5, 6.5, 400)[None]
    widths, heights, slopes = shape(1, 400, spread=spread)
    y, log_slope = spline(x, widths, heights, slopes, BOUND, False)
    back, log_slope_back = spline(y, widths, heights, slopes, BOUND, True)
    # Where a steep part follows a flat one, a rounding of y is that much more in x.
    assert ((back - x).abs() * log_slope.exp().clamp(max=1.0)).max() < 2e-4
    assert (log_slope + log_slope_back).abs().median() < 1e-4


def test_the_slope_is_the_derivative_and_positive() -> None:
    x = torch.linspace(-6.0, 6.0, 300, dtype=torch.float32, requires_grad=True)
    y, log_slope = spline(x, *(value.expand(300, -1) for value in shape(1)), BOUND, False)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), log_slope, atol=1e-3)
    assert (y.diff() > 0).all()


@pytest.mark.parametrize("inverse", [False, True])
def test_outside_it_is_the_identity(inverse: bool) -> None:
    x = torch.tensor([-100.0, -5.0001, 5.0001, 1e6])
    y, log_slope = spline(x, *shape(4), BOUND, inverse)
    assert torch.equal(y, x) and torch.equal(log_slope, torch.zeros(4))
    edges, _ = spline(torch.tensor([-BOUND, BOUND]), *shape(2), BOUND, inverse)
    assert torch.allclose(edges, torch.tensor([-BOUND, BOUND]), atol=1e-5)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("spread", [1.0, 60.0])
def test_values_and_gradients_are_finite_wherever_it_is_asked(inverse: bool, spread: float) -> None:
    x = torch.cat((torch.linspace(-5.0, 5.0, 101), torch.tensor([-1e30, 1e30]))).requires_grad_()
    parameters = [value.requires_grad_() for value in shape(103, spread=spread)]
    y, log_slope = spline(x, *parameters, BOUND, inverse)  # type: ignore[call-arg, arg-type]
    assert y.isfinite().all() and log_slope.isfinite().all()
    (y[:-2].sum() + log_slope.sum()).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in (x, *parameters))


def test_half_precision_is_computed_in_full() -> None:
    x, parameters = torch.linspace(-4.0, 4.0, 50), shape(50)
    y, log_slope = spline(x.half(), *(value.half() for value in parameters), BOUND, True)
    expected, _ = spline(x.half().float(), *(value.half().float() for value in parameters), BOUND, True)
    assert y.dtype == log_slope.dtype == torch.float32 and torch.equal(y, expected)
