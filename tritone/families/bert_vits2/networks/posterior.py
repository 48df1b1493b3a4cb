"""The posterior encoder (VITS, section 2.3): linear spectrogram to the latents that the decoder is trained on."""

from __future__ import annotations

from torch import Tensor, nn

from tritone.families.bert_vits2.networks.wavenet import WaveNet

LAYERS, KERNEL = 16, 5


class PosteriorEncoder(nn.Module):
    """Maps magnitudes `[batch, bins, frames]` to a normal distribution of latents and a sample of it.

    Only training uses it.
    """

    def __init__(self, spec_channels: int, inter: int, hidden: int, gin: int) -> None:
        super().__init__()
        self.inter = inter
        self.pre = nn.Conv1d(spec_channels, hidden, 1)
        self.enc = WaveNet(hidden, KERNEL, LAYERS, gin)
        self.proj = nn.Conv1d(hidden, 2 * inter, 1)

    def forward(self, spec: Tensor, mask: Tensor, g: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return sample, mean and log deviation, each `[batch, inter, frames]`, zero past a row's end.

        Args:
            mask: `[batch, 1, frames]`, 1 where a frame exists.
            g: speaker, `[batch, gin, 1]`.
            noise: standard normal, `[batch, inter, frames]`.
        """
        statistics = self.proj(self.enc(self.pre(spec) * mask, mask, g)) * mask
        mean, log_deviation = statistics[:, : self.inter], statistics[:, self.inter :]
        return (mean + noise * log_deviation.exp()) * mask, mean, log_deviation
