"""Small flows for the tests: the tiny published sizes, and random ones with a mask of their own."""

from __future__ import annotations

import numpy as np
import torch

from tritone.families.cosyvoice.config.v2 import EncoderConfig, EstimatorConfig, FlowConfig
from tritone.families.cosyvoice.flow.v2.network import Flow


def tiny_config() -> FlowConfig:
    """Return sizes of the tiny checkpoint behind the golden numbers."""
    return FlowConfig(
        encoder=EncoderConfig(linear_units=96, num_blocks=1),
        estimator=EstimatorConfig(channels=(64,), attention_head_dim=16, n_blocks=1, num_mid_blocks=2, num_heads=4),
    )


def random_flow(left_chunks: int, chunk: int = 25) -> tuple[FlowConfig, Flow]:
    """Return a flow with random weights whose masks have `chunk` tokens (2 x frames) and `left_chunks`."""
    config = FlowConfig(
        vocab_size=50,
        input_size=32,
        spk_embed_dim=8,
        encoder=EncoderConfig(32, 2, 48, 2, 2, chunk, left_chunks),
        estimator=EstimatorConfig(
            channels=(32,), attention_head_dim=8, n_blocks=2, num_mid_blocks=2, num_heads=2,
            chunk_size=2 * chunk, left_chunks=left_chunks,
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    flow = Flow(config).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            if parameter.ndim == 1 or parameter.shape == (2, 16):  # biases, and the attention's two position biases
                parameter.add_(0.3 * torch.randn_like(parameter))
    return config, flow


def stacked(steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the states of all Euler steps as arrays `[steps, ...]`."""
    return {name: np.stack([state[name] for state in steps]) for name in steps[0]}
