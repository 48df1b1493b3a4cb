"""How good a generator is, without any chance in it: distances of log mel on fixed slices, and what it says.

`mel`             slices decoded from what the posterior encoder makes of the recording (the training's mel loss)
`mel_from_text`   slices decoded from what the text predicts, spread along the best alignment: all of speaking but the
                  durations
`duration_error`  difference of the spoken and the recorded length, as a share of the latter
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
"""Shares of the stochastic duration predictor that are listened to."""


def evaluate(
    generator: Generator,
    batches: Sequence[Batch],
    mel_of: Callable[[Tensor], Tensor],
    frames: int,
    rate: int,
    seed: int,
) -> Evaluation:
    """Scores over `batches` of one utterance each, with spectrograms, alignments and audio of every one of them.

    Args:
        mel_of: log mel `[1, mels, frames]` of waves `[1, samples]`.
        frames: length of the slices compared; where they begin is drawn from `seed` and the utterance's number.
        rate: Hz of the waves.
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
        guessed = generator.dec(take_slices(from_text, passed.starts, frames), passed.g)
        hop = generator.hop
        wanted = take_slices(batch.wave[:, None], passed.starts * hop, frames * hop)[:, 0]
        target = mel_of(wanted)
        scalars["mel"].append(float(F.l1_loss(mel_of(passed.waveform[:, 0].float()), target)))
        scalars["mel_from_text"].append(float(F.l1_loss(mel_of(guessed[:, 0].float()), target)))
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
    return Evaluation({name: float(np.mean(found)) for name, found in scalars.items()}, images, audio, alignments)


def still(generator: Generator, batch: Batch, seed: int, number: int) -> TrainingNoise:
    """No noise at all, and slices that begin where the seed and the utterance's number say."""
    rows, phones = batch.phones.shape
    silence = batch.spectrogram.new_zeros(rows, generator.inter_channels, batch.spectrogram.shape[2])
    quiet = batch.spectrogram.new_zeros(rows, 2, phones)
    starts = np.random.default_rng([seed, number]).random(rows)
    return TrainingNoise(silence, None, quiet, quiet, torch.from_numpy(starts).to(batch.spectrogram))


def still_noise(batch: Batch) -> Callable[[tuple[int, ...]], Tensor]:
    """What `Generator.infer` draws from when nothing is to be left to chance."""
    return lambda shape: batch.spectrogram.new_zeros(shape)


def _picture(mel_of: Callable[[Tensor], Tensor], wave: Tensor) -> np.ndarray:
    return mel_of(wave)[0].float().cpu().numpy()
