"""The flow of v2, speech tokens to mel, under the published key names, and its two encoder stages."""

from __future__ import annotations

from torch import Tensor, nn

from tritone.families.cosyvoice.config.v2 import FlowConfig
from tritone.families.cosyvoice.flow.network import Decoder, FlowBase
from tritone.families.cosyvoice.flow.v2.encoder import EncoderState, UpsampleConformerEncoder
from tritone.families.cosyvoice.flow.v2.estimator import Estimator


class Flow(FlowBase):
    """All weights of a v2 `flow.pt`, loadable strictly.

    Source: CosyVoice 2 (Du et al. 2024), section 2.4; its class in the YAML is CausalMaskedDiffWithXvec.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        self.config = config
        self.ahead = config.pre_lookahead_len
        self.encoder = UpsampleConformerEncoder(config.encoder, config.input_size, config.pre_lookahead_len)
        self.encoder_proj = nn.Linear(config.encoder.dim, config.output_size)
        self.decoder = Decoder(Estimator(config.estimator))

    def encode(
        self, token: Tensor, length: Tensor, chunk_size: Tensor, state: EncoderState | None = None
    ) -> tuple[Tensor, EncoderState | None]:
        """Return mel-rate features `[batch, 80, 2 x tokens]` of `token` `[batch, tokens + lookahead]`, and next
        state.
        """
        hidden, state = self.encoder(self.input_embedding(token.clamp(min=0)), length, chunk_size, state)
        return self.encoder_proj(hidden).transpose(1, 2), state

    def encode_whole(self, token: Tensor, length: Tensor, chunk_size: Tensor) -> Tensor:
        """Return features `[batch, 80, 2 x tokens]` of whole utterances `[batch, tokens]`, zero beyond their
        lengths.
        """
        mu, _ = self.encode(nn.functional.pad(token, (0, self.ahead)), length, chunk_size)
        return self.within(mu, length)


class FlowEncoder(nn.Module):
    """Stage `flow_encoder` of v2: whole utterances of different lengths in a batch, with zeros after an end."""

    full_precision_inputs = ("embedding",)

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(
        self, speech_token: Tensor, speech_token_len: Tensor, embedding: Tensor, chunk_size: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.flow.encode_whole(speech_token, speech_token_len, chunk_size), self.flow.speaker(embedding)


class FlowEncoderChunk(nn.Module):
    """Stage `flow_encoder_chunk` of v2: one chunk and its lookahead.

    `speech_token_len` counts both; at the end of speech it is shorter, and the missing tokens count as zeros.
    """

    full_precision_inputs = ("embedding",)

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(
        self,
        speech_token: Tensor,
        speech_token_len: Tensor,
        embedding: Tensor,
        chunk_size: Tensor,
        token_att_state: Tensor,
        frame_att_state: Tensor,
        conv_state: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        state = EncoderState(token_att_state, frame_att_state, conv_state)
        mu, after = self.flow.encode(speech_token, speech_token_len, chunk_size, state)
        assert after is not None  # a step from a state has a next state
        return mu, self.flow.speaker(embedding), after.token_att, after.frame_att, after.conv
