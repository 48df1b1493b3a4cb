"""Speech tokens to mel in v1: a conformer, interpolation to the mel rate, and a U-Net flow."""

from __future__ import annotations

from torch import Tensor, nn

from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.families.cosyvoice.conformer import Conformer, existing
from tritone.families.cosyvoice.flow.network import Decoder, FlowBase
from tritone.families.cosyvoice.flow.v1.estimator import Unet
from tritone.nn.activations import Mish
from tritone.nn.norm import MaskedGroupNorm
from tritone.nn.stft import length_mask


class LengthRegulator(nn.Module):
    """Turns token features into frame features `[batch, channels, frames]`: interpolation, then convolutions."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        model: list[nn.Module] = []
        for _ in range(layers):
            model += [nn.Conv1d(channels, channels, 3, padding=1), MaskedGroupNorm(1, channels), Mish()]
        self.model = nn.ModuleList([*model, nn.Conv1d(channels, channels, 1)])

    def forward(self, x: Tensor, token: Tensor, fraction: Tensor, length: Tensor) -> Tensor:
        """Return frame features, zero beyond each row's `length` `[batch]`.

        Args:
            x: token features `[batch, channels, tokens]`.
            token, fraction: `[batch, frames]`, the position of each frame (see `interpolation.frame_positions`).
        """
        last = x.shape[2] - 1
        at = token.clamp(min=0).clamp(max=last)[:, None].expand(-1, x.shape[1], -1)
        fraction = fraction[:, None].to(x.dtype)
        x = x.gather(2, at) * (1 - fraction) + x.gather(2, (at + 1).clamp(max=last)) * fraction
        mask = length_mask(length, x)
        for index, layer in enumerate(self.model):
            # Layers take turns: convolution, norm, activation. Only the norm takes the mask.
            x = layer(x, mask) if index % 3 == 1 else layer(x * mask)
        return x * mask


class InterpolatingFlow(FlowBase):
    """All weights of a v1 `flow.pt`, loadable strictly; its class in the YAML is MaskedDiffWithXvec."""

    def __init__(self, config: InterpolatingFlowConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder = Conformer(config.encoder, config.input_size)
        self.encoder_proj = nn.Linear(config.encoder.dim, config.output_size)
        self.length_regulator = LengthRegulator(config.output_size, len(config.sampling_ratios))
        self.decoder = Decoder(Unet(config.estimator))

    def encode(self, token: Tensor, length: Tensor) -> Tensor:
        """Return token features `[batch, 80, tokens]` of ids `[batch, tokens]`."""
        embedded = self.input_embedding(token.clamp(min=0))
        hidden = self.encoder(embedded * existing(embedded, length), length)
        return self.encoder_proj(hidden).transpose(1, 2)


class InterpolatingEncoder(nn.Module):
    """Stage `flow_encoder` of v1: whole utterances of different lengths in a batch, at the mel rate."""

    full_precision_inputs = ("embedding",)

    def __init__(self, flow: InterpolatingFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(
        self,
        speech_token: Tensor,
        speech_token_len: Tensor,
        embedding: Tensor,
        frame_token: Tensor,
        frame_fraction: Tensor,
        frame_len: Tensor,
    ) -> tuple[Tensor, Tensor]:
        features = self.flow.encode(speech_token, speech_token_len)
        mu = self.flow.length_regulator(features, frame_token, frame_fraction, frame_len)
        return mu, self.flow.speaker(embedding)


class UnetEstimator(nn.Module):
    """Stage `flow_estimator` of v1: the velocity of whole utterances, zero where `mask` is zero."""

    full_precision_inputs = ("t",)

    def __init__(self, flow: InterpolatingFlow) -> None:
        super().__init__()
        self.estimator = flow.get_submodule("decoder.estimator")

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, spks: Tensor, cond: Tensor) -> Tensor:
        return self.estimator(x, mask, mu, t, spks, cond)
