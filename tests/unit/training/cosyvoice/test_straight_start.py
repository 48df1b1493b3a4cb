"""The estimator's first weights: a straight flow from noise to the encoder's mean."""

from __future__ import annotations

import torch
from support.flow_helpers import random_flow

from training.cosyvoice.straight_start import begin_straight, fits
from tritone.families.cosyvoice.config.v2 import EstimatorConfig
from tritone.families.cosyvoice.flow.v2.estimator import Estimator

CONFIG = EstimatorConfig(channels=(192,), attention_head_dim=32, n_blocks=1, num_mid_blocks=2, num_heads=6)


def correlation(estimator: Estimator) -> float:
    """Return how closely the velocity follows mu - x, for log mel of a usual size."""
    torch.manual_seed(0)
    mean = torch.full((80,), -6.0)
    x, mu = torch.randn(2, 80, 30), mean[:, None] + 2 * torch.randn(2, 80, 30)
    t, spks, chunk = torch.full((2,), 0.1), torch.randn(2, 80), torch.tensor([50])
    with torch.no_grad():
        velocity, _ = estimator(x, mu, t, spks, torch.zeros_like(x), chunk)
    both = torch.stack(((velocity - mean[:, None]).flatten(), (mu - x - mean[:, None]).flatten()))
    return float(torch.corrcoef(both)[0, 1])


def test_the_first_velocity_is_mu_minus_x() -> None:
    torch.manual_seed(1)
    estimator = Estimator(CONFIG)
    assert fits(estimator) and abs(correlation(estimator)) < 0.5
    begin_straight(estimator, torch.full((80,), -6.0))
    assert correlation(estimator) > 0.9


def test_a_narrow_estimator_does_not_fit() -> None:
    _, flow = random_flow(-1, 4)
    assert not fits(flow.decoder.estimator)
