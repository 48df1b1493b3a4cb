"""The flow's training objective, conditional flow matching, and the served solver applied to it.

Source: Lipman et al. 2023; CosyVoice 2 (Du et al. 2024), section 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tritone.families.cosyvoice.config.v2 import FlowConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.network import FlowEstimator
from tritone.families.cosyvoice.flow.noise import published_noise
from tritone.families.cosyvoice.flow.v2.network import Flow
from tritone.stage import Arrays

PROMPTED = 0.5
"""Share of the utterances whose beginning is given as known mel..."""
LONGEST_PROMPT = 0.3
"""... and the largest part of them that is."""


@dataclass(frozen=True)
class Batch:
    """token int64 `[batch, tokens]`, length int64 `[batch]` in tokens, embedding `[batch, 192]`,
    mel `[batch, 80, 2 x tokens]`, all zero beyond each length."""

    token: Tensor
    length: Tensor
    embedding: Tensor
    mel: Tensor

    def row(self, index: int) -> Batch:
        """Return that utterance alone, without padding."""
        one, size = slice(index, index + 1), int(self.length[index])
        return Batch(self.token[one, :size], self.length[one], self.embedding[one], self.mel[one, :, : 2 * size])

    def mask(self) -> Tensor:
        """Return a float32 mask `[batch, 1, frames]`, 1 on frames that exist."""
        frames = torch.arange(self.mel.shape[2], device=self.mel.device)
        return (frames[None] < 2 * self.length[:, None])[:, None].float()

    def known(self) -> Tensor:
        """Return the condition `[batch, 80, frames]`: for some rows a random part at the front, at most
        `LONGEST_PROMPT`.
        """
        device, rows = self.mel.device, len(self.mel)
        share = torch.rand(rows, device=device) * (torch.rand(rows, device=device) < PROMPTED) * LONGEST_PROMPT
        frames = torch.arange(self.mel.shape[2], device=device)
        return self.mel * (frames[None] < (share * 2 * self.length)[:, None].floor())[:, None]


Given = tuple[Tensor, Tensor, Tensor]
"""mu, spks and the known mel, as the estimator shall see them."""


def losses(flow: Flow, batch: Batch, streaming: bool) -> tuple[Tensor, Tensor]:
    """Return the flow-matching loss at random flow times, and the encoder's squared distance to the mel; both per mel
    value.

    Every row loses all its conditions with the configured probability, so that guidance has an unconditioned estimate.
    """
    config = flow.config
    tokens, frames = chunks(config, streaming, batch.mel.device)
    mu = flow.encode_whole(batch.token, batch.length, tokens).float()
    spks = flow.speaker(batch.embedding).float()
    prior = masked_mean((mu - batch.mel).square(), batch.mask())
    kept = (torch.rand(len(mu), device=mu.device) > config.training_cfg_rate).float()
    t = 1 - torch.cos(0.5 * torch.pi * torch.rand(len(mu), device=mu.device))
    given = (mu * kept[:, None, None], spks * kept[:, None], batch.known() * kept[:, None, None])
    return matching_loss(flow, batch, t, torch.randn_like(batch.mel), given, frames), prior


def matching_loss(flow: Flow, batch: Batch, t: Tensor, noise: Tensor, given: Given, chunk_size: Tensor) -> Tensor:
    """Return the mean squared error of the velocity on the straight path from `noise` to the mel, at times `t`
    `[batch]`.
    """
    rest, mask, at = 1 - flow.config.sigma_min, batch.mask(), t[:, None, None]
    x = (1 - rest * at) * noise + at * batch.mel
    mu, spks, cond = given
    velocity, _ = flow.decoder.estimator(x, mu, t, spks, cond, chunk_size, valid=mask[:, 0] > 0.5)
    return masked_mean((velocity.float() - (batch.mel - rest * noise)).square(), mask)


def chunks(config: FlowConfig, streaming: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the chunk sizes of the encoder's and the estimator's attention masks: the streaming ones, or full
    attention.
    """
    sizes = (config.encoder.chunk_size, config.estimator.chunk_size) if streaming else (cfm.FULL_ATTENTION,) * 2
    tokens, frames = (torch.tensor([size], device=device) for size in sizes)
    return tokens, frames


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `[batch, channels, frames]` over the frames that exist."""
    return (values * mask).sum() / (mask.sum() * values.shape[1])


@torch.no_grad()
def solve(flow: Flow, batch: Batch, streaming: bool) -> np.ndarray:
    """Return mel `[80, frames]` of the one utterance in `batch`, by the served solver, without a prompt."""
    device = batch.mel.device
    estimator = FlowEstimator(flow)
    tokens, frames = chunks(flow.config, streaming, device)

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        order = ("x", "mask", "mu", "t", "spks", "cond", "chunk_size")
        return {"velocity": estimator(*(torch.from_numpy(arrays[key]).to(device) for key in order)).cpu().numpy()}

    mu = flow.encode_whole(batch.token, batch.length, tokens).cpu().numpy()
    spks = flow.speaker(batch.embedding).cpu().numpy()
    mask = np.ones((1, 1, mu.shape[2]), np.float32)
    noise = published_noise()[:, :, : mu.shape[2]]
    known = np.zeros_like(mu)
    return cfm.solve(call, mu, spks, known, mask, noise, int(frames), flow.config.steps, flow.config.cfg_rate)[0]
