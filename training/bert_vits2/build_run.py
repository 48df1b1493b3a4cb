"""Builds a run of the shared training loop from a configuration: networks, optimisers, data, step and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from training.bert_vits2.base_model import load_base
from training.bert_vits2.config import NETWORKS, Settings, TrainConfig
from training.bert_vits2.data.batch import Batch
from training.bert_vits2.data.corpus import Training, validation
from training.bert_vits2.download import fetch
from training.bert_vits2.evaluate import evaluate
from training.bert_vits2.freeze import freeze, trainable
from training.bert_vits2.gan_step import Players, gan_step, loss_scaler, mel_of
from training.bert_vits2.networks.duration_discriminator import DurationDiscriminator
from training.bert_vits2.networks.waveform_discriminators import MultiPeriodDiscriminator
from training.bert_vits2.networks.wavlm_discriminator import WavLMDiscriminator, load_wavlm
from training.core import distributed
from training.core.run import LOG, Evaluation, Run
from tritone.families.bert_vits2.networks.generator import Generator


def build(settings: Settings, device: torch.device, fresh: bool = True) -> tuple[Run, Training]:
    """Return the run of `settings`, and its training data.

    Args:
        fresh: whether the run is new and so starts from the base model, if any; a resumed run has its own weights.
    """
    family, train = settings.family, settings.train
    networks = build_networks(settings)
    if fresh and train.base.folder:
        start_from_base(settings, networks)
    for network in networks.values():
        network.to(device)
    frozen = freeze(networks, train.freeze)
    if frozen:
        LOG.info("%d parameters are frozen: %s", len(frozen), ", ".join(frozen))
    optimizers = build_optimizers(networks, train)
    wavlm = None
    if train.wavlm_discriminator:
        wavlm = load_wavlm(Path(family.model.slm.get("model", "")), family.data.sampling_rate).to(device)
    scaler = loss_scaler(train.precision, device)
    mel = mel_of(family.data).to(device)
    players = Players(
        cast(Generator, networks["G"]),
        cast(MultiPeriodDiscriminator, networks["D"]),
        optimizers,
        mel,
        cast(DurationDiscriminator | None, networks.get("DUR")),
        wavlm,
        cast(WavLMDiscriminator | None, networks.get("WD")),
        scaler,
    )
    data = Training(settings, pin=device.type == "cuda")
    held_out = validation(settings, device) if distributed.rank() == 0 else []

    def batches(epoch: int, skip: int) -> Iterator[Batch]:
        for batch in data.epochs.batches(epoch, skip):
            yield batch.to(device)

    def score() -> Evaluation:
        frames = train.segment_size // family.data.hop_length
        return evaluate(players.generator, held_out, mel, frames, family.data.sampling_rate, train.seed)

    run = Run(
        name="bert_vits2",
        networks=networks,
        optimizers=optimizers,
        batches=batches,
        step=lambda batch, number: gan_step(players, batch, number, train),
        evaluate=score,
        metric=train.best_by,
        max_steps=train.epochs * len(data.epochs),
        rates=dict.fromkeys(optimizers, lambda epoch: train.lr * train.lr_decay**epoch),
        extra_state={"scaler": Scaling(scaler)},
        device=device,
        utterances=data.utterances,
    )
    return run, data


class Scaling:
    """The loss scaler's state, empty except in float16: the precision may change between two starts."""

    def __init__(self, scaler: torch.amp.GradScaler | None) -> None:
        self._scaler = scaler

    def state_dict(self) -> dict[str, Any]:
        return dict(self._scaler.state_dict()) if self._scaler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._scaler and state:
            self._scaler.load_state_dict(state)


def build_networks(settings: Settings) -> dict[str, nn.Module]:
    """Return the networks that the configuration trains, by the names of `NETWORKS`, with fresh weights."""
    family, train = settings.family, settings.train
    model, slm = family.model, family.model.slm
    networks: dict[str, nn.Module] = {"G": Generator(family), "D": MultiPeriodDiscriminator(train.judge_shrink)}
    if train.wavlm_discriminator:
        networks["WD"] = WavLMDiscriminator(
            slm.get("hidden", 768), slm.get("nlayers", 13), slm.get("initial_channel", 64)
        )
    if model.use_duration_discriminator:
        layout = "lstm" if family.version == "2.3" else "conv"
        width = model.hidden_channels
        networks["DUR"] = DurationDiscriminator(width, width, model.gin_channels, layout=layout)
    return {name: networks[name] for name in NETWORKS if name in networks}


def build_optimizers(networks: Mapping[str, nn.Module], train: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Return an AdamW for each network, for the parameters that are not frozen."""
    betas = (train.betas[0], train.betas[1])
    return {
        name: torch.optim.AdamW(trainable(name, network), train.lr, betas, train.eps, train.weight_decay)
        for name, network in networks.items()
    }


def start_from_base(settings: Settings, networks: Mapping[str, nn.Module]) -> None:
    """Download the base model if necessary, and load its weights into the networks, on rank 0.

    The other processes receive the weights of rank 0 when training starts.
    """
    base = settings.train.base
    if distributed.rank() == 0:
        folder = Path(base.folder)
        if base.files:
            fetch(base.files, base.places(), folder)
        for name, path in load_base(networks, folder, base.allow_partial).items():
            LOG.info("%s starts from %s", name, path)
    distributed.barrier()
