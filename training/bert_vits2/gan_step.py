"""One adversarial training step of Bert-VITS2: updates of three discriminators, then of the generator.

    players = Players(generator, waves, optimizers, mel_of, durations, wavlm, wavlm_judge, scaler)
    scalars = gan_step(players, batch, number, train)

Sources: Kim et al., "VITS" (2021); Kong et al., "VITS2" (2023), for the duration discriminator and the
alignment noise; Li et al., "StyleTTS 2" (2023), for the discriminator of WavLM's states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from training.bert_vits2.alignment import align, noise_scale
from training.bert_vits2.config import TrainConfig
from training.bert_vits2.data.batch import Batch, draw_noise, text_of
from training.bert_vits2.losses import duration_discriminator_loss, duration_generator_loss, kl_loss, wavlm_loss
from training.bert_vits2.networks.duration_discriminator import DurationDiscriminator
from training.bert_vits2.networks.waveform_discriminators import MultiPeriodDiscriminator
from training.bert_vits2.networks.wavlm_discriminator import WavLM, WavLMDiscriminator
from training.core import distributed
from training.core.losses import MelSpectrogram, discriminator_loss, feature_loss, generator_loss
from tritone.audio.mel import MelConfig
from tritone.errors import ConfigError
from tritone.families.bert_vits2.config import DataConfig
from tritone.families.bert_vits2.networks.generator import Generator, Training, TrainingNoise, take_slices

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Players:
    """The networks, optimisers and helpers of a step, all on one device.

    Args:
        generator, waves: generator and wave discriminator, "G" and "D" in `optimizers`.
        mel_of: the result of `mel_of(data)`.
        durations: the duration discriminator, "DUR" in `optimizers`, if any.
        wavlm, wavlm_judge: WavLM, which is frozen, and its discriminator, "WD" in `optimizers`; both or neither.
        scaler: the loss scaler of float16, see `loss_scaler`; its state belongs in the checkpoint.
    """

    generator: Generator
    waves: MultiPeriodDiscriminator
    optimizers: Mapping[str, Optimizer]
    mel_of: MelSpectrogram
    durations: DurationDiscriminator | None = None
    wavlm: WavLM | None = None
    wavlm_judge: WavLMDiscriminator | None = None
    scaler: torch.amp.GradScaler | None = None

    def __post_init__(self) -> None:
        if (self.wavlm is None) != (self.wavlm_judge is None):
            raise ConfigError("WavLM and its discriminator belong together: give both or neither.")
        absent = sorted(set(self.networks()) - set(self.optimizers))
        if absent:
            raise ConfigError(f"no optimiser for {', '.join(absent)}; found {', '.join(sorted(self.optimizers))}.")

    def networks(self) -> dict[str, nn.Module]:
        """Return the trained networks by the names of their optimisers and checkpoint files."""
        networks = {"G": self.generator, "D": self.waves, "DUR": self.durations, "WD": self.wavlm_judge}
        return {name: network for name, network in networks.items() if network is not None}


def mel_of(data: DataConfig) -> MelSpectrogram:
    """Return the log mel of the mel loss, for waves `[batch, samples]`, or `of_linear` for linear spectrograms."""
    config = MelConfig(
        n_fft=data.filter_length,
        num_mels=data.n_mel_channels,
        sample_rate=data.sampling_rate,
        hop=data.hop_length,
        win=data.win_length,
        fmin=data.mel_fmin,
        fmax=data.mel_fmax,
    )
    return MelSpectrogram(config, floor=1e-6)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """Return the loss scaler that float16 needs for small gradients; None for "fp32" and "bf16"."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def gan_step(
    players: Players, batch: Batch, number: int, train: TrainConfig, noise: TrainingNoise | None = None
) -> dict[str, float]:
    """Update every network once, and return losses and gradient norms (before clipping) by names such as "G/mel".

    First comes the forward pass of the generator; then the discriminators of durations, waves and WavLM's states are
    updated with its outputs; then the generator is updated with the new discriminators. Frozen parameters stay frozen.

    Args:
        batch: a batch on the players' device.
        number: number of the step, with which the alignment's noise decreases.
        train: precision, loss weights, clipping, slice length, kind of duration loss.
        noise: drawn from torch's generator by default.
    """
    scale = noise_scale(number, train.mas_noise, train.mas_noise_step)
    hop = players.generator.hop
    frames = train.segment_size // hop
    if noise is None:
        noise = draw_noise(batch, players.generator.enc_p.inter, scale > 0)
    step = _Step(players, batch, train)
    with step.autocast():
        made = players.generator(
            text_of(batch), batch.spectrogram, batch.frames, batch.speaker, noise, align, frames, scale
        )
    fake = made.waveform[:, 0].float()
    real = take_slices(batch.wave[:, None], made.starts * hop, frames * hop)[:, 0]
    judged = number >= train.judged_from
    step.update_durations(made)
    if judged:
        step.update_waves(real, fake)
    states = step.update_wavlm(real, fake)
    step.update_generator(made, real, fake, states, judged)
    if players.scaler is not None:
        players.scaler.update()
    return dict(zip(step.scalars, torch.stack(list(step.scalars.values())).tolist(), strict=True)) | step.norms


States = tuple[Tensor, Tensor]
"""WavLM's hidden states of the recordings and of the generated slices."""


@dataclass
class _Step:
    """A step in progress: its inputs, and the losses and gradient norms so far."""

    players: Players
    batch: Batch
    train: TrainConfig
    scalars: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        return self.train.duration_loss == "published"

    def autocast(self) -> torch.autocast:
        """Return the context in which the networks compute in the configured precision."""
        precision = self.train.precision
        dtype = DTYPES.get(precision, torch.bfloat16)
        return torch.autocast(self.batch.wave.device.type, dtype, enabled=precision != "fp32")

    def update(self, name: str, loss: Tensor) -> None:
        """Update one network with its loss."""
        players = self.players
        self.scalars.setdefault(f"{name}/loss", loss.detach())
        self.norms[f"{name}/norm"] = distributed.update(
            loss, players.optimizers[name], clip=self.train.clip(name), scaler=players.scaler
        )

    def update_durations(self, made: Training) -> None:
        """Update the duration discriminator, if there is one."""
        judge = self.players.durations
        if judge is None:
            return
        x, logw, logw_aligned, logw_sampled = made.durations
        with self.autocast():
            true, *false = judge(x, made.x_mask, [logw_aligned, logw.detach(), logw_sampled.detach()], made.g)
        self.update("DUR", duration_discriminator_loss(true, false, made.x_mask, self.published))

    def update_waves(self, real: Tensor, fake: Tensor) -> None:
        """Update the wave discriminator."""
        with self.autocast():
            true_scores, _ = self.players.waves(real)
            false_scores, _ = self.players.waves(fake.detach())
        self.update("D", discriminator_loss(true_scores, false_scores))

    def update_wavlm(self, real: Tensor, fake: Tensor) -> States | None:
        """Update the discriminator of WavLM's states, if there is one, and return the states."""
        wavlm, judge = self.players.wavlm, self.players.wavlm_judge
        if wavlm is None or judge is None:
            return None
        with self.autocast():
            with torch.no_grad():
                real_states = wavlm(real)
            fake_states = wavlm(fake)  # computed once, for the discriminator and for the generator
            true, false = judge(real_states), judge(fake_states.detach())
        self.update("WD", discriminator_loss([true], [false]))
        return real_states, fake_states

    def update_generator(self, made: Training, real: Tensor, fake: Tensor, states: States | None, judged: bool) -> None:
        """Update the generator, with the discriminators frozen."""
        players = self.players
        losses: dict[str, Tensor] = {}
        with _frozen(players.waves, players.durations, players.wavlm_judge):
            if judged:
                losses |= self.wave_losses(real, fake)
            losses |= self.own_losses(made, fake)
            if states is not None and players.wavlm_judge is not None:
                real_states, fake_states = states
                with self.autocast():
                    score = players.wavlm_judge(fake_states)
                losses["wavlm"] = wavlm_loss(real_states, fake_states)
                losses["wavlm_adversarial"] = generator_loss([score])
            if players.durations is not None:
                x, logw, _, logw_sampled = made.durations
                with self.autocast():
                    scores = players.durations(x, made.x_mask, [logw, logw_sampled], made.g)
                losses["duration_adversarial"] = duration_generator_loss(scores, made.x_mask, self.published)
            self.update("G", torch.stack(list(losses.values())).sum())
        self.scalars |= {f"G/{name}": loss.detach() for name, loss in losses.items()}

    def wave_losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return the generator's losses from the wave discriminator."""
        with self.autocast():
            with torch.no_grad():
                _, real_layers = self.players.waves(real)
            scores, layers = self.players.waves(fake)
        return {"adversarial": generator_loss(scores), "features": 2 * feature_loss(real_layers, layers)}

    def own_losses(self, made: Training, fake: Tensor) -> dict[str, Tensor]:
        """Return the generator's losses without a discriminator: mel, durations and the prior."""
        train, mel_of = self.train, self.players.mel_of
        frames = train.segment_size // self.players.generator.hop
        target = take_slices(mel_of.of_linear(self.batch.spectrogram), made.starts, frames)
        _, z_p, m_p, logs_p, _, logs_q = made.latents
        return {
            "mel": train.c_mel * F.l1_loss(mel_of(fake), target),
            "duration": made.l_length.float().sum(),
            "kl": train.c_kl * kl_loss(z_p, logs_q, m_p, logs_p, made.y_mask),
        }


@contextlib.contextmanager
def _frozen(*networks: nn.Module | None) -> Iterator[None]:
    """Compute no gradients of these networks' parameters inside the context: they would not be used."""
    trained = [p for network in networks if network for p in network.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
