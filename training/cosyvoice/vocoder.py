"""The recipe of the HiFT vocoder: spectral losses at first, then adversarial losses as well.

The source is driven by tracked f0 while the f0 network learns, and by the network's own f0 afterwards, as in use.
Everything is computed from the recordings crop by crop, so no feature store is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.core import checkpointing, distributed
from training.core.discriminators import Discriminators
from training.core.losses import MelSpectrogram, discriminator_loss, feature_loss, generator_loss, stft_loss
from training.core.run import Evaluation, Run, autocast, warmup_cosine
from training.corpus.crops import MARGIN, MEL, Crop, crop, long_enough, track
from training.corpus.data import Corpus
from tritone.audio.mel import mel_spectrogram
from tritone.audio.wav import read_wav
from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.vocoder.hift import Hift
from tritone.families.cosyvoice.vocoder.source import harmonics

NANO = HiftConfig(
    base_channels=256,
    f0_channels=128,
    resblock_kernel_sizes=(3, 7),
    resblock_dilation_sizes=((1, 3), (1, 3)),
    source_resblock_kernel_sizes=(3, 3, 3),
    source_resblock_dilation_sizes=((1,), (1,), (1,)),
)
"""Wide and shallow: in bfloat16 on a CPU it trains faster than a narrow, deep network that is as fast in use."""
SMOKE = HiftConfig(base_channels=16, f0_channels=16)

FRAMES = 20
"""Mel frames of a training crop (0.4 s)."""
BATCH = 8
JUDGED = 4
"""Crops per step that the discriminators see: they cost more than the generator."""
STEPS = 12000
SPECTRAL_STEPS = 2000
"""Steps before the discriminators join (at most a third of the run)."""
RAMP = 500
"""Steps over which the adversarial losses come in, while the discriminators learn the first differences."""
RATE = 8e-4
"""Peak learning rate of the generator; the discriminators' is half of it."""
WEIGHTS = {"mel": 45.0, "stft": 2.5, "adversarial": 1.0, "features": 2.0, "f0": 1.0}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this recipe's options."""
    parser.add_argument("--batch", type=int, default=BATCH, help="crops per step")
    parser.add_argument("--frames", type=int, default=FRAMES, help="mel frames per crop (20 ms each)")
    parser.add_argument("--spectral-steps", type=int, default=SPECTRAL_STEPS, help="steps without discriminators")
    parser.add_argument("--rate", type=float, default=RATE, help="peak learning rate")
    parser.add_argument("--start", type=Path, help="folder of a run whose last networks are the start")


def build(args: argparse.Namespace) -> Run:
    """Return the run of `python -m training cosyvoice_vocoder`."""
    corpus, device = Corpus(args.data), args.device
    config = SMOKE if args.smoke else NANO
    max_steps = args.steps or (10 if args.smoke else STEPS)
    spectral_steps = min(args.spectral_steps, max_steps // 3)
    generator = prepare(Hift(config)).to(device)
    judges = Discriminators(*((2, 2) if args.smoke else ())).to(device)
    if args.start:
        generator.load_state_dict(checkpointing.last_network(args.start, "generator"))
        judges.load_state_dict(checkpointing.last_network(args.start, "discriminators"))
        spectral_steps = 0
    steps = VocoderStep(generator, judges, config, args.rate, spectral_steps, device)
    rows = long_enough(corpus, corpus.indices(False), args.frames + 2 * MARGIN)
    size = 2 if args.smoke else args.batch

    def plan(epoch: int) -> list[tuple[int, np.ndarray]]:
        order = np.random.default_rng([args.seed, epoch]).permutation(rows)
        groups = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
        world = distributed.world_size()
        return list(enumerate(groups[: len(groups) // world * world]))[distributed.rank() :: world]

    def batches(epoch: int, skip: int) -> Iterator[Crop]:
        for number, group in plan(epoch)[skip:]:
            rng = np.random.default_rng([args.seed, epoch, number])
            yield crop(corpus, group, args.frames, rng, steps.mel_of, device)

    def evaluate() -> Evaluation:
        return score(generator, corpus, examples(corpus, 1 if args.smoke else 2), device)

    networks = {"generator": generator, "discriminators": judges}
    schedulers = dict.fromkeys(steps.optimizers, warmup_cosine(0.01, 0.02))
    return Run("vocoder", networks, steps.optimizers, batches, steps, evaluate, "mel_distance", max_steps, schedulers,
               device=device, utterances=lambda epoch, number: corpus.names(plan(epoch)[number][1]))  # fmt: skip


class VocoderStep:
    """One training step of generator and discriminators; called with a batch and the step's number.

    Args:
        spectral_steps: steps before the discriminators join.
    """

    def __init__(
        self,
        generator: Hift,
        judges: Discriminators,
        config: HiftConfig,
        rate: float,
        spectral_steps: int,
        device: torch.device,
    ) -> None:
        self.generator, self.judges, self.config, self.device = generator, judges, config, device
        self.spectral_steps = spectral_steps
        self.mel_of = MelSpectrogram(MEL).to(device)
        self.optimizers = {
            "generator": _adamw(generator, rate),
            "discriminators": _adamw(judges, rate / 2),
        }

    def __call__(self, batch: Crop, number: int) -> dict[str, float]:
        wave, losses = self._spectral(batch, number)
        scalars: dict[str, float] = {}
        ramp = min(1.0, (number - self.spectral_steps) / RAMP)
        if ramp >= 0:
            scalars["discriminators"] = self._judge(batch.wave[:JUDGED], wave[:JUDGED].detach())
            # Freezing the discriminators spares their gradients in the generator's backward pass.
            self.judges.requires_grad_(False)
            losses |= self._adversarial(batch.wave[:JUDGED], wave[:JUDGED], ramp)
        total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        scalars |= {name: float(loss.detach()) for name, loss in losses.items()}
        scalars["gradient"] = distributed.update(total, self.optimizers["generator"], clip=50.0)
        self.judges.requires_grad_(True)
        return scalars

    def _spectral(self, batch: Crop, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the generated wave `[batch, samples]` and its losses against the recording."""
        generator = self.generator
        with autocast(self.device):
            f0 = generator.f0_predictor(batch.mel).float()
        driving = batch.f0 if number < self.spectral_steps else f0.detach()
        spectrum = generator.analyse(generator.m_source(excite(driving, self.config, batch.seed)), None)
        with autocast(self.device):
            hidden = generator.filter(batch.mel, None, spectrum)
        wave = generator.synthesize(hidden.float(), None)  # phases and samples need more than bfloat16's 8 bits
        return wave, {
            "mel": F.l1_loss(self.mel_of(wave), self.mel_of(batch.wave)),
            "stft": stft_loss(wave, batch.wave),
            "f0": F.l1_loss(f0, batch.f0) / 100,
        }

    def _judge(self, recorded: Tensor, generated: Tensor) -> float:
        """Update the discriminators; return their loss."""
        with autocast(self.device):
            real, _ = self.judges(recorded)
            fake, _ = self.judges(generated)
        loss = discriminator_loss(real, fake)
        distributed.update(loss, self.optimizers["discriminators"], clip=10.0)
        return float(loss.detach())

    def _adversarial(self, recorded: Tensor, generated: Tensor, ramp: float) -> dict[str, Tensor]:
        """Return the generator's losses under the discriminators."""
        with autocast(self.device):
            with torch.no_grad():
                _, real_layers = self.judges(recorded)
            fake, fake_layers = self.judges(generated)
        return {
            "adversarial": ramp * generator_loss(fake),
            "features": ramp * feature_loss(real_layers, fake_layers),
        }


def _adamw(network: nn.Module, rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(network.parameters(), rate, betas=(0.8, 0.99), weight_decay=0.01, fused=True)


def prepare(generator: Hift) -> Hift:
    """Return a new network with initial outputs near speech: quiet spectra and an f0 of about 100 Hz."""
    with torch.no_grad():
        assert generator.conv_post.bias is not None
        generator.conv_post.bias[: generator.config.istft_n_fft // 2 + 1] -= 4.0
        generator.f0_predictor.classifier.weight *= 30.0
        generator.f0_predictor.classifier.bias.fill_(100.0)
    return generator


def excite(f0: Tensor, config: HiftConfig, seed: int) -> Tensor:
    """Return the source's harmonics `[batch, harmonics, hop * frames]`, each row with its own noise."""
    rows = [harmonics(row, config, seed + i) for i, row in enumerate(f0.float().cpu().numpy())]
    return torch.from_numpy(np.stack(rows)).to(f0.device)


def examples(corpus: Corpus, each: int) -> list[int]:
    """Return the first `each` utterances of every speaker in the validation split."""
    rows = long_enough(corpus, corpus.validation(), 50)
    chosen = [[i for i in rows if corpus.utterances[i].speaker == speaker][:each] for speaker in corpus.speakers]
    return [int(i) for some in chosen for i in some]


def score(generator: Hift, corpus: Corpus, rows: list[int], device: torch.device) -> Evaluation:
    """Return the scores of whole utterances re-synthesised from their mel alone.

    `mel_distance`: mean absolute difference of log mel. `f0_error`: mean relative error where both are voiced.
    `voicing_error`: share of frames whose voicing differs.
    """
    distances, errors, disagreements = [], [], []
    images, audio = {}, {}
    threshold = generator.config.nsf_voiced_threshold
    for row in rows:
        utterance = corpus.utterances[row]
        recording = read_wav(utterance.path, MEL.sample_rate)
        recording = recording[: len(recording) // MEL.hop * MEL.hop]
        mel = mel_spectrogram(recording, MEL)
        given = torch.from_numpy(mel)[None].to(device)
        f0 = generator.f0_predictor(given)
        wave = generator(given, None, excite(f0, generator.config, seed=0))[0].float().cpu().numpy()
        again = mel_spectrogram(wave, MEL)
        distances.append(np.abs(again - mel).mean())
        estimated, tracked = f0[0].float().cpu().numpy(), track(recording[None])[0]
        both = (estimated > threshold) & (tracked > 0)
        errors.append(np.abs(estimated / np.maximum(tracked, 1) - 1)[both].mean() if both.any() else 1.0)
        disagreements.append(((estimated > threshold) != (tracked > 0)).mean())
        if utterance.speaker not in images:
            images[utterance.speaker] = np.concatenate([again, mel])
            audio[utterance.speaker] = (wave, MEL.sample_rate)
            audio[f"{utterance.speaker}_recording"] = (recording, MEL.sample_rate)
    scalars = {"mel_distance": distances, "f0_error": errors, "voicing_error": disagreements}
    return Evaluation({name: float(np.mean(values)) for name, values in scalars.items()}, images, audio)


def trained(out: Path, smoke: bool = False) -> Hift:
    """Return the last generator of the run in `out`; its state_dict is the checkpoint's `hift.pt`.

    It is not the one nearest to the mel: discriminators trade some mel distance for audible quality. Measured after
    2000 adversarial steps: word error rate of re-synthesis from 0.33 to 0.29, mel distance from 0.219 to 0.227.
    """
    generator = Hift(replace(SMOKE if smoke else NANO))
    generator.load_state_dict(checkpointing.last_network(out, "generator"))
    return generator.eval()
