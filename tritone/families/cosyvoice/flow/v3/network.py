"""Speech tokens to mel in v3: token embeddings with lookahead, each repeated, and a transformer flow."""

from __future__ import annotations

from torch import Tensor, nn

from tritone.families.cosyvoice.config.v3 import DitFlowConfig
from tritone.families.cosyvoice.conformer import existing
from tritone.families.cosyvoice.flow.lookahead import Lookahead
from tritone.families.cosyvoice.flow.network import Decoder, FlowBase
from tritone.families.cosyvoice.flow.v3.estimator import Dit


class DitFlow(FlowBase):
    """All weights of a v3 `flow.pt`, loadable strictly.

    Source: CosyVoice 3 (Du et al. 2025); its class in the YAML is CausalMaskedDiffWithDiT.
    """

    def __init__(self, config: DitFlowConfig) -> None:
        super().__init__(config)
        self.ahead = config.pre_lookahead_len
        self.pre_lookahead_layer = Lookahead(config.input_size, config.pre_lookahead_len, config.encoder.channels)
        self.decoder = Decoder(Dit(config.estimator))

    def encode(self, token: Tensor, length: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return mel-rate features `[batch, 80, 2 x tokens]` of `token` `[batch, tokens + lookahead]`, and next
        state.
        """
        embedded = self.input_embedding(token.clamp(min=0))
        hidden, state = self.pre_lookahead_layer(embedded * existing(embedded, length), state)
        hidden = hidden.transpose(1, 2)[..., None].expand(-1, -1, -1, self.token_mel_ratio)
        return hidden.flatten(2), state


class LookaheadEncoder(nn.Module):
    """Stage `flow_encoder` of v3: whole utterances of different lengths in a batch, with silence after an end."""

    full_precision_inputs = ("embedding",)

    def __init__(self, flow: DitFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, speech_token: Tensor, speech_token_len: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        mu, _ = self.flow.encode(nn.functional.pad(speech_token, (0, self.flow.ahead)), speech_token_len)
        return self.flow.within(mu, speech_token_len), self.flow.speaker(embedding)


class LookaheadEncoderChunk(nn.Module):
    """Stage `flow_encoder_chunk` of v3: one chunk and its lookahead.

    `speech_token_len` counts both; at the end of speech it is shorter, and the missing tokens count as zeros.
    """

    full_precision_inputs = ("embedding",)

    def __init__(self, flow: DitFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(
        self, speech_token: Tensor, speech_token_len: Tensor, embedding: Tensor, conv_state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        mu, after = self.flow.encode(speech_token, speech_token_len, conv_state)
        assert after is not None  # a step from a state has a next state
        return mu, self.flow.speaker(embedding), after
