"""A small convolutional network that predicts the fundamental frequency of mel frames."""

from __future__ import annotations

from torch import Tensor, nn

from tritone.families.cosyvoice.vocoder.convs import Convs
from tritone.families.cosyvoice.vocoder.receptive_field import F0_LAYERS
from tritone.nn.stft import length_mask


class F0Network(nn.Module):
    """Five convolutions over mel frames and a linear read-out in Hz; keys as in published checkpoints.

    The causal network looks ahead in its first layer and back in the others. In half precision, rounding the mel alone
    moves f0 by 0.2 Hz, and phase is the integral of f0. The published causal network computes in float64, which few
    engines support; here only the phase is integrated in float64, once per frame, so that float32 in the network moves
    it by 1e-4 cycles a minute.
    """

    full_precision = True

    def __init__(self, in_channels: int, channels: int, convs: Convs) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(F0_LAYERS):
            layers += [convs.f0(channels if index else in_channels, channels, index), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: Tensor, mel_len: Tensor | None = None) -> Tensor:
        """Return f0 in Hz, `[batch, frames]`, 0 past a row's end; frames below the voicing threshold are unvoiced.

        Args:
            mel: `[batch, mels, frames]`; mel_len: the valid frames of each row; None if all are valid.
        """
        mask = None if mel_len is None else length_mask(mel_len, mel)
        hidden = mel if mask is None else mel * mask
        for index, layer in enumerate(self.condnet):
            hidden = layer(hidden)
            # By position instead of type: graph compilers treat convolutions of two widths as two types.
            if index % 2 == 0 and mask is not None:
                hidden = hidden * mask
        f0 = self.classifier(hidden.transpose(1, 2))[..., 0].abs()
        return f0 if mask is None else f0 * mask[:, 0]
