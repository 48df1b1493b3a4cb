"""Networks that the flows of several versions share: embeddings, the decoder, and the estimator's two stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.common import CommonFlowConfig
from tritone.families.cosyvoice.flow.unet import EstimatorState


class Decoder(nn.Module):
    """Holds the estimator under its key in checkpoints; the solver is host work (`cfm.py`)."""

    def __init__(self, estimator: nn.Module) -> None:
        super().__init__()
        self.estimator = estimator


class FlowBase(nn.Module):
    """The base of all flows: embeddings of tokens and of the speaker."""

    def __init__(self, config: CommonFlowConfig) -> None:
        super().__init__()
        self.token_mel_ratio = config.token_mel_ratio
        self.input_embedding = nn.Embedding(config.vocab_size, config.input_size)
        self.spk_embed_affine_layer = nn.Linear(config.spk_embed_dim, config.output_size)

    def within(self, mu: Tensor, length: Tensor) -> Tensor:
        """Return features `[batch, 80, 2 x tokens]`, zero beyond the tokens of each row, `length` `[batch]`."""
        frames = torch.arange(mu.shape[2], device=mu.device)[None]
        return mu * (frames < self.token_mel_ratio * length[:, None])[:, None].to(mu.dtype)

    def speaker(self, embedding: Tensor) -> Tensor:
        """Return speaker features `[batch, 80]` of embeddings `[batch, 192]`, which are normalised first."""
        direction = nn.functional.normalize(embedding, dim=1)
        return self.spk_embed_affine_layer(direction.to(self.spk_embed_affine_layer.weight.dtype))


class FlowEstimator(nn.Module):
    """Stage `flow_estimator`: the velocity of whole utterances, zero where `mask` is zero."""

    full_precision_inputs = ("t",)

    def __init__(self, flow: FlowBase) -> None:
        super().__init__()
        self.estimator = flow.get_submodule("decoder.estimator")

    def forward(
        self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, spks: Tensor, cond: Tensor, chunk_size: Tensor
    ) -> Tensor:
        velocity, _ = self.estimator(x, mu, t, spks, cond, chunk_size, valid=mask[:, 0] > 0.5)
        return velocity * mask


class FlowEstimatorChunk(nn.Module):
    """Stage `flow_estimator_chunk`: the velocity of a chunk, with the state of the chunk before at this Euler step."""

    full_precision_inputs = ("t",)

    def __init__(self, flow: FlowBase) -> None:
        super().__init__()
        self.estimator = flow.get_submodule("decoder.estimator")

    def forward(
        self,
        x: Tensor,
        mu: Tensor,
        t: Tensor,
        spks: Tensor,
        cond: Tensor,
        chunk_size: Tensor,
        att_state: Tensor,
        conv_state: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        state = EstimatorState(att_state, conv_state)
        velocity, after = self.estimator(x, mu, t, spks, cond, chunk_size, state=state)
        assert after is not None  # a step from a state has a next state
        return velocity, after.att, after.conv
