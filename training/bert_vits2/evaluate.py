"""A deterministic evaluation of a generator: distances of log mel on fixed slices, and synthesised audio.

`mel`             slices decoded from the posterior of the recording (the mel loss of training)
`mel_from_text`   slices decoded from the prior of the text along the best alignment: synthesis except for durations
`duration_error`  difference between synthesised and recorded length, as a share of the recorded length
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.bert_vits2.alignment import align
from training.bert_vits2.data.batch import Batch, text_of
from training.core.run import Evaluation
from tritone.families.bert_vits2.networks.generator import Generator, TrainingNoise, take_slices

RATIOS = (0.0, 1.0)
"""Shares of the stochastic duration predictor in the synthesised audio."""


def evaluate(
    generator: Generator,
    batches: Sequence[Batch],
    mel_of: Callable[[Tensor], Tensor],
    frames: int,
    rate: int,
    seed: int,
) -> Evaluation:
    """Return mean scores over `batches` of one utterance each, with spectrogram, alignment and audio of each.

    Args:
        mel_of: returns log mel `[1, mels, frames]` of waves `[1, samples]`.
        frames: length of the compared slices; their starts are drawn from `seed` and the utterance's number.
        rate: sampling rate of the waves in Hz.
    """
    scalars: dict[str, list[float]] = {"mel": [], "mel_from_text": [], "duration_error": []}
    images, alignments, audio = {}, {}, {}
    for number, batch in enumerate(batches):
        passed = generator(
            text_of(batch), batch.spectrogram, batch.frames, batch.speaker, still(generator, batch, seed, number),
            align, frames,
        )  # fmt: skip
        _, _, m_p, *_ = passed.latents
        from_text = generator.flow(m_p, passed.y_mask, passed.g)
        predicted = generator.dec(take_slices(from_text, passed.starts, frames), passed.g)
        hop = generator.hop
        recorded = take_slices(batch.wave[:, None], passed.starts * hop, frames * hop)[:, 0]
        target = mel_of(recorded)
        scalars["mel"].append(float(F.l1_loss(mel_of(passed.waveform[:, 0].float()), target)))
        scalars["mel_from_text"].append(float(F.l1_loss(mel_of(predicted[:, 0].float()), target)))
        alignments[f"alignment/{number}"] = passed.attention[0, 0].T.float().cpu().numpy()
        recording = batch.wave[:1, : int(batch.frames[0]) * hop]
        errors = []
        for ratio in RATIOS:
            speech = generator.infer(text_of(batch), passed.g, still_noise(batch), 0.0, 1.0, 0.0, ratio)
            spoken = speech.waveform[:1, 0].float()
            errors.append(abs(int(speech.samples[0]) / recording.shape[1] - 1))
            audio[f"spoken/{number}/sdp_{ratio:g}"] = (spoken[0].cpu().numpy(), rate)
            images[f"spoken/{number}/sdp_{ratio:g}"] = _picture(mel_of, spoken)
        scalars["duration_error"].append(float(np.mean(errors)))
        audio[f"recorded/{number}"] = (recording[0].cpu().numpy(), rate)
        images[f"recorded/{number}"] = _picture(mel_of, recording)
    return Evaluation({name: float(np.mean(values)) for name, values in scalars.items()}, images, audio, alignments)


def still(generator: Generator, batch: Batch, seed: int, number: int) -> TrainingNoise:
    """Return zeros as noise, and slices whose starts depend on the seed and the utterance's number alone."""
    rows, phones = batch.phones.shape
    silence = batch.spectrogram.new_zeros(rows, generator.inter_channels, batch.spectrogram.shape[2])
    quiet = batch.spectrogram.new_zeros(rows, 2, phones)
    starts = np.random.default_rng([seed, number]).random(rows)
    return TrainingNoise(silence, None, quiet, quiet, torch.from_numpy(starts).to(batch.spectrogram))


def still_noise(batch: Batch) -> Callable[[tuple[int, ...]], Tensor]:
    """Return a `draw(shape)` for `Generator.infer` that returns zeros."""
    return lambda shape: batch.spectrogram.new_zeros(shape)


def _picture(mel_of: Callable[[Tensor], Tensor], wave: Tensor) -> np.ndarray:
    return mel_of(wave)[0].float().cpu().numpy()
