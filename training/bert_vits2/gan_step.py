"""One adversarial step of Bert-VITS2: three discriminators are taught, then the generator against all of them.

    players = Players(generator, waves, optimizers, mel_of, durations, wavlm, wavlm_judge, scaler)
    scalars = gan_step(players, batch, number, train)

Sources: Kim et al., "VITS" (2021); Kong et al., "VITS2" (2023), duration discriminator and noise of the alignment;
Li et al., "StyleTTS 2" (2023), discriminator of WavLM's states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
from tritone.families.bert_vits2.networks.generator import Generator, TrainingNoise, take_slices

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Players:
    """All that takes part in a step, on one device.

    Args:
        generator, waves: always there; `optimizers` has their AdamW as "G" and "D".
        mel_of: `mel_of(data)`, see below.
        durations: judged where there is one ("DUR" in `optimizers`).
        wavlm, wavlm_judge: both or neither ("WD"); WavLM itself never learns.
        scaler: for float16 alone, see `loss_scaler`; its state belongs in the checkpoint.
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
        """Those that learn, by the names of their optimisers and checkpoint files."""
        found = {"G": self.generator, "D": self.waves, "DUR": self.durations, "WD": self.wavlm_judge}
        return {name: network for name, network in found.items() if network is not None}


def mel_of(data: DataConfig) -> MelSpectrogram:
    """Return the log mel the generator is compared in: of waves `[batch, samples]`, or `of_linear` of spectrograms."""
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
    """What float16 needs for its small gradients; None for "fp32" and "bf16", whose exponents reach far enough."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def gan_step(
    players: Players, batch: Batch, number: int, train: TrainConfig, noise: TrainingNoise | None = None
) -> dict[str, float]:
    """Losses and gradient norms (before clipping) of one update of every network, by names such as "G/mel".

    The order is: generator forward; the judges of durations, waves and WavLM's states each learn from it; then the
    generator learns from the judges as they are now. Frozen parameters stay frozen.

    Args:
        batch: on the players' device. number: of the step, which the noise of the alignment fades with.
        train: precision, loss weights, clipping, slice length, kind of duration loss.
        noise: drawn from torch's generator when not given.
    """
    scale = noise_scale(number, train.mas_noise, train.mas_noise_step)
    hop, published = players.generator.hop, train.duration_loss == "published"
    frames = train.segment_size // hop
    if noise is None:
        noise = draw_noise(batch, players.generator.enc_p.inter, scale > 0)
    with _autocast(batch, train):
        made = players.generator(
            text_of(batch), batch.spectrogram, batch.frames, batch.speaker, noise, align, frames, scale
        )
    fake = made.waveform[:, 0].float()
    real = take_slices(batch.wave[:, None], made.starts * hop, frames * hop)[:, 0]
    x, logw, logw_aligned, logw_sampled = made.durations
    scalars: dict[str, Tensor] = {}
    norms: dict[str, float] = {}

    def update(name: str, loss: Tensor) -> None:
        scalars.setdefault(f"{name}/loss", loss.detach())
        optimizer = players.optimizers[name]
        norms[f"{name}/norm"] = distributed.update(loss, optimizer, clip=train.clip(name), scaler=players.scaler)

    if players.durations is not None:
        with _autocast(batch, train):
            told = [logw_aligned, logw.detach(), logw_sampled.detach()]
            true, *false = players.durations(x, made.x_mask, told, made.g)
        update("DUR", duration_discriminator_loss(true, false, made.x_mask, published))

    judged = number >= train.judged_from
    if judged:
        with _autocast(batch, train):
            true_scores, _ = players.waves(real)
            false_scores, _ = players.waves(fake.detach())
        update("D", discriminator_loss(true_scores, false_scores))

    if players.wavlm is not None and players.wavlm_judge is not None:
        with _autocast(batch, train):
            with torch.no_grad():
                real_states = players.wavlm(real)
            fake_states = players.wavlm(fake)  # once, for the judge and for the generator
            true, false = players.wavlm_judge(real_states), players.wavlm_judge(fake_states.detach())
        update("WD", discriminator_loss([true], [false]))

    losses: dict[str, Tensor] = {}
    with _held(players.waves, players.durations, players.wavlm_judge):
        if judged:
            with _autocast(batch, train):
                with torch.no_grad():
                    _, real_layers = players.waves(real)
                scores, layers = players.waves(fake)
            losses["adversarial"] = generator_loss(scores)
            losses["features"] = 2 * feature_loss(real_layers, layers)
        target = take_slices(players.mel_of.of_linear(batch.spectrogram), made.starts, frames)
        losses["mel"] = train.c_mel * F.l1_loss(players.mel_of(fake), target)
        losses["duration"] = made.l_length.float().sum()
        _, z_p, m_p, logs_p, _, logs_q = made.latents
        losses["kl"] = train.c_kl * kl_loss(z_p, logs_q, m_p, logs_p, made.y_mask)
        if players.wavlm_judge is not None:
            with _autocast(batch, train):
                score = players.wavlm_judge(fake_states)
            losses["wavlm"] = wavlm_loss(real_states, fake_states)
            losses["wavlm_adversarial"] = generator_loss([score])
        if players.durations is not None:
            with _autocast(batch, train):
                guesses = players.durations(x, made.x_mask, [logw, logw_sampled], made.g)
            losses["duration_adversarial"] = duration_generator_loss(guesses, made.x_mask, published)
        update("G", torch.stack(list(losses.values())).sum())
    if players.scaler is not None:
        players.scaler.update()
    scalars |= {f"G/{name}": loss.detach() for name, loss in losses.items()}
    return dict(zip(scalars, torch.stack(list(scalars.values())).tolist(), strict=True)) | norms


def _autocast(batch: Batch, train: TrainConfig) -> torch.autocast:
    return torch.autocast(
        batch.wave.device.type, DTYPES.get(train.precision, torch.bfloat16), enabled=train.precision != "fp32"
    )


@contextlib.contextmanager
def _held(*networks: nn.Module | None) -> Iterator[None]:
    """No gradients for these networks' parameters inside: they would be computed and thrown away."""
    learning = [p for network in networks if network for p in network.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
