"""Activations equal torch's own."""

from __future__ import annotations

import torch

from tritone.nn.activations import mish


def test_mish_equals_torch_with_its_gradient() -> None:
    x = torch.linspace(-30, 30, 2001, requires_grad=True)
    expected = torch.nn.functional.mish(x)
    (wanted,) = torch.autograd.grad(expected.sum(), x)
    found = mish(x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.allclose(found, expected, atol=5e-6)
    assert torch.allclose(gradient, wanted, atol=5e-6)


def test_mish_survives_overflow() -> None:
    assert torch.equal(mish(torch.tensor([100.0, 1000.0])), torch.tensor([100.0, 1000.0]))
    assert torch.equal(mish(torch.tensor([20.0]).half()), torch.tensor([20.0]).half())
