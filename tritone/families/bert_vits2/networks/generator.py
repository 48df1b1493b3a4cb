"""The generator of Bert-VITS2: VITS (Kim et al. 2021) with the transformer flow and noise-scaled search of VITS2.

`forward` is the pass of a training step, `infer` is synthesis. Noise is an argument of both; the search for the
alignment is an argument of `forward`, because it belongs to training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.errors import CheckpointError
from tritone.families.bert_vits2.config import BertVits2Config
from tritone.families.bert_vits2.networks.coupling import Flow
from tritone.families.bert_vits2.networks.decoder import Decoder
from tritone.families.bert_vits2.networks.duration import DurationPredictor, duration_path, whole_frames
from tritone.families.bert_vits2.networks.emotion.encoders import text_encoder
from tritone.families.bert_vits2.networks.posterior import PosteriorEncoder
from tritone.families.bert_vits2.networks.reference_encoder import ReferenceEncoder
from tritone.families.bert_vits2.networks.stochastic_duration import StochasticDurationPredictor
from tritone.nn.stft import length_mask

Align = Callable[[Tensor, Tensor], Tensor]
"""`align(scores, mask) -> path`, all `[batch, frames, phones]`: 0 or 1, the monotonic path with the largest sum."""
Draw = Callable[[tuple[int, ...]], Tensor]
"""`draw(shape)` returns standard normal noise of that shape."""


class Text(NamedTuple):
    """A padded batch: ids int64 `[batch, phones]`, `lengths` `[batch]`, BERT features `[batch, 1024, phones]`."""

    x: Tensor
    lengths: Tensor
    tone: Tensor
    language: Tensor
    bert: Tensor
    ja_bert: Tensor
    en_bert: Tensor


class TrainingNoise(NamedTuple):
    """Random numbers of one training pass, standard normal except `slices`.

    Args:
        posterior: `[batch, inter, frames]`.
        alignment: `[batch, frames, phones]`, added to the scores of the search; None if its scale is 0.
        duration, duration_sample: `[batch, 2, phones]`, for the duration posterior and for a sample of durations.
        slices: uniform in 0..1, `[batch]`: the position in each row at which the decoded slice begins.
    """

    posterior: Tensor
    alignment: Tensor | None
    duration: Tensor
    duration_sample: Tensor
    slices: Tensor


class Training(NamedTuple):
    """The inputs of a training step's losses.

    Args:
        waveform: `[batch, 1, hop * slice frames]`, decoded from the frames that begin at `starts` (int64 `[batch]`).
        l_length: the sum of both duration losses of each row, `[batch]`; the loss is the sum over rows.
        attention: the path, `[batch, 1, frames, phones]`.
        x_mask, y_mask: `[batch, 1, phones]` and `[batch, 1, frames]`.
        latents: (z, z_p, m_p, logs_p, m_q, logs_q), each `[batch, inter, frames]`, the prior expanded to frames.
        durations: (x, logw, logw_, logw_sdp): encoded text `[batch, hidden, phones]`; log durations
            `[batch, 1, phones]` predicted, aligned and sampled.
        g: speaker, `[batch, gin, 1]`.
    """

    waveform: Tensor
    l_length: Tensor
    attention: Tensor
    starts: Tensor
    x_mask: Tensor
    y_mask: Tensor
    latents: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
    durations: tuple[Tensor, Tensor, Tensor, Tensor]
    g: Tensor


class Speech(NamedTuple):
    """Waveform `[batch, 1, hop * frames]`, samples of each row `[batch]`, frames of each phone, path and latents."""

    waveform: Tensor
    samples: Tensor
    duration: Tensor
    attention: Tensor
    z: Tensor
    z_p: Tensor


class Generator(nn.Module):
    """All networks of the generator under the keys of published checkpoints.

    Args:
        posterior: whether to build the posterior encoder, which only training needs.
    """

    def __init__(self, config: BertVits2Config, posterior: bool = True) -> None:
        super().__init__()
        model, data = config.model, config.data
        gin, hidden = model.gin_channels, model.hidden_channels
        self.hop, self.inter_channels = data.hop_length, model.inter_channels
        self.enc_p = text_encoder(config.emotion, model)
        self.dec = Decoder(model)
        self.enc_q = PosteriorEncoder(data.spec_channels, model.inter_channels, hidden, gin) if posterior else None
        self.flow = Flow(model)
        self.sdp = StochasticDurationPredictor(hidden, gin)
        self.dp = DurationPredictor(hidden, gin)
        if data.n_speakers > 0:
            self.emb_g = nn.Embedding(data.n_speakers, gin)
        else:
            self.ref_enc = ReferenceEncoder(data.spec_channels, gin)

    def speaker(self, sid: Tensor) -> Tensor:
        """Return the embeddings `[batch, gin, 1]` of the speakers with ids `sid` (int64 `[batch]`)."""
        return self.emb_g(sid)[:, :, None]

    def speaker_of(self, spec: Tensor, lengths: Tensor) -> Tensor:
        """Return speakers `[batch, gin, 1]` from linear spectrograms `[batch, bins, frames]` (without a table)."""
        return self.ref_enc(spec, lengths)[:, :, None]

    def forward(
        self,
        text: Text,
        spec: Tensor,
        spec_lengths: Tensor,
        sid: Tensor,
        noise: TrainingNoise,
        align: Align,
        slice_frames: int,
        alignment_noise_scale: float = 0.0,
    ) -> Training:
        """Return one training pass (VITS, section 2; noise of the search: VITS2, section 2.2).

        Args:
            spec: linear magnitudes `[batch, bins, frames]`.
            spec_lengths: frames of each row, `[batch]`.
            sid: int64 `[batch]`, ignored by a model that takes the speaker from `spec`.
            slice_frames: number of frames of each row to decode.
        """
        if self.enc_q is None:
            raise CheckpointError("this generator was built without a posterior encoder and cannot train.")
        g = self.speaker(sid) if hasattr(self, "emb_g") else self.speaker_of(spec, spec_lengths)
        x_mask, y_mask = length_mask(text.lengths, text.bert), length_mask(spec_lengths, spec)
        x, m_p, logs_p = self.enc_p(text.x, x_mask, *text[2:], g)
        z, m_q, logs_q = self.enc_q(spec, y_mask, g, noise.posterior)
        z_p = self.flow.to_prior(z, y_mask, g)
        # In full precision under any autocast: a sum over all channels decides between neighbours.
        with torch.no_grad(), torch.autocast(z_p.device.type, enabled=False):
            scores = alignment_scores(z_p.float(), m_p.float(), logs_p.float())
            if noise.alignment is not None and alignment_noise_scale > 0:
                scores = scores + scores.std() * noise.alignment * alignment_noise_scale
            both = y_mask[:, 0, :, None] * x_mask[:, 0, None, :]
            path = align(scores, both).to(both.dtype)
        duration = path.sum(dim=1)[:, None]
        phones = x_mask.sum()
        # In float16, a tenth of a spline's gradient would be rounding error.
        with torch.autocast(x.device.type, enabled=False):
            l_sdp = self.sdp.negative_log_likelihood(x.float(), x_mask, duration, noise.duration, g.float())
            logw_sdp = self.sdp(x.float(), x_mask, noise.duration_sample, g.float())
        logw_mas = torch.log(duration + 1e-6) * x_mask
        logw = self.dp(x, x_mask, g)
        squares = (logw_sdp - logw_mas).square() + (logw - logw_mas).square()
        l_length = (l_sdp + squares.sum(dim=(1, 2))) / phones
        m_p, logs_p = _expand(m_p, path), _expand(logs_p, path)
        starts = slice_starts(noise.slices, spec_lengths, slice_frames)
        return Training(
            self.dec(take_slices(z, starts, slice_frames), g),
            l_length,
            path[:, None],
            starts,
            x_mask,
            y_mask,
            (z, z_p, m_p, logs_p, m_q, logs_q),
            (x, logw, logw_mas, logw_sdp),
            g,
        )

    def infer(
        self,
        text: Text,
        g: Tensor,
        draw: Draw,
        noise_scale: float = 0.667,
        length_scale: float = 1.0,
        noise_scale_w: float = 0.8,
        sdp_ratio: float = 0.0,
        emotion: tuple[Tensor, ...] = (),
    ) -> Speech:
        """Return speech; a row does not depend on the other rows of the batch, and is silent past its end.

        Args:
            g: speaker, `[batch, gin, 1]`.
            draw: called for the noise of durations `[batch, 2, phones]`, then of the prior `[batch, inter, frames]`.
            noise_scale, noise_scale_w: temperature of the prior and of the durations.
            length_scale: factor of the durations; values above 1 are slower.
            sdp_ratio: share of the stochastic predictor in the log durations.
            emotion: what the text encoder of the version takes besides (`networks.emotion.encoders`).
        """
        x_mask = length_mask(text.lengths, text.bert)
        x, m_p, logs_p = self.enc_p(text.x, x_mask, *text[2:], g, *emotion)
        noise = draw((x.shape[0], 2, x.shape[2])) * noise_scale_w
        logw = self.sdp(x, x_mask, noise, g) * sdp_ratio + self.dp(x, x_mask, g) * (1 - sdp_ratio)
        duration, frames = whole_frames(logw, x_mask, length_scale)
        y_mask = length_mask(frames, x.new_empty((1, 1, int(frames.max()))))
        path = duration_path(duration, y_mask[:, :, :, None] * x_mask[:, :, None, :])
        m_p, logs_p = _expand(m_p, path[:, 0]), _expand(logs_p, path[:, 0])
        z_p = m_p + draw(tuple(m_p.shape)) * logs_p.exp() * noise_scale
        z = self.flow(z_p, y_mask, g)
        waveform = self.dec(z, g, None if len(frames) == 1 else frames)
        return Speech(waveform, frames * self.hop, duration, path, z, z_p)


def alignment_scores(z_p: Tensor, m_p: Tensor, logs_p: Tensor) -> Tensor:
    """Return log N(z_p of a frame; m_p, exp(logs_p) of a phone), `[batch, frames, phones]`, from `[batch, inter, ...]`.

    The square is expanded, so that two matrix products compute everything.
    """
    inverse_variance = torch.exp(-2 * logs_p)
    constant = (-0.9189385332046727 - logs_p - 0.5 * m_p.square() * inverse_variance).sum(dim=1)
    z_p = z_p.transpose(1, 2)
    return constant[:, None] - 0.5 * z_p.square() @ inverse_variance + z_p @ (m_p * inverse_variance)


def slice_starts(uniform: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Return the starts of slices of `size` frames, int64 `[batch]`: uniform over all that end inside the row.

    `uniform` holds numbers in 0..1.
    """
    return (uniform * (lengths - size + 1).clamp(min=1)).long()


def take_slices(x: Tensor, starts: Tensor, size: int) -> Tensor:
    """Return slices `[batch, channels, size]` of `[batch, channels, frames]` from `starts`, zeros past the end."""
    x = F.pad(x, (0, max(0, size - x.shape[2])))
    index = starts[:, None] + torch.arange(size, device=x.device)
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))


def _expand(x: Tensor, path: Tensor) -> Tensor:
    """Return values of phones `[batch, inter, phones]` repeated for the frames of a path `[batch, frames, phones]`."""
    return x @ path.transpose(1, 2)
