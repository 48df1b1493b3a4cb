"""The recipe of the speaker embedder; recordings replayed faster or slower count as further voices.

A few speakers would leave an embedding space with a few points in it. Replaying a recording at another rate moves pitch
and formants together, which sounds like another voice: nine rates per speaker fill the space between the points.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.core import checkpointing, distributed
from training.core.run import Evaluation, Run, warmup_cosine
from training.corpus.data import Corpus
from training.cosyvoice.networks.embedder import Embedder, Margin
from tritone.audio.kaldi import kaldi_fbank
from tritone.audio.resample import resample
from tritone.audio.wav import read_wav
from tritone.families.cosyvoice.checkpoint.folder import SPEAKER_EMBEDDER

FILE = SPEAKER_EMBEDDER
"""The name of the exported file."""
RATES = (0.80, 0.85, 0.90, 0.95, 1.0, 1.06, 1.12, 1.18, 1.25)
CROP = 1.5
"""Seconds of each training example; shorter recordings are repeated."""


def voice(path: Path, rate: float, rng: np.random.Generator, level: float = 0.0) -> np.ndarray:
    """Return filterbanks `[148, 80]` of a random crop replayed `rate` times as fast, with noise of relative `level`
    added.
    """
    need = int(CROP * 16000)
    wav = read_wav(path, 16000)
    take = int(need * rate) + 400
    wav = np.tile(wav, -(-take // len(wav)))
    start = int(rng.integers(0, len(wav) - take + 1))
    played = resample(wav[start : start + take], round(16000 * rate), 16000)[:need]
    played = played + level * float(np.sqrt((played**2).mean())) * rng.standard_normal(len(played)).astype(np.float32)
    return kaldi_fbank(played, subtract_mean=True)


def build(args: argparse.Namespace) -> Run:
    """Return the run of `python -m training cosyvoice_speaker`."""
    corpus, device, size = Corpus(args.data), args.device, 8 if args.smoke else 48
    embedder = Embedder(16 if args.smoke else 128).to(device)
    margin = Margin(len(corpus.speakers) * len(RATES)).to(device)
    optimizer = torch.optim.AdamW([*embedder.parameters(), *margin.parameters()], 2e-3, weight_decay=0.01)
    rows = corpus.indices(False)

    def load(chosen: np.ndarray, rng: np.random.Generator, augment: bool) -> tuple[Tensor, Tensor]:
        feats, classes = [], []
        for i in chosen:
            utterance, rate = corpus.utterances[i], int(rng.integers(len(RATES)))
            feats.append(voice(utterance.path, RATES[rate], rng, rng.uniform(0, 0.1) if augment else 0.0))
            classes.append(corpus.speakers.index(utterance.speaker) * len(RATES) + rate)
        return torch.from_numpy(np.stack(feats)).to(device), torch.tensor(classes, device=device)

    def plan(epoch: int) -> list[tuple[int, np.ndarray]]:
        order = np.random.default_rng([args.seed, epoch]).permutation(rows)
        groups = [order[at : at + size] for at in range(0, len(order) - len(order) % size or len(order), size)]
        world = distributed.world_size()
        return list(enumerate(groups[: len(groups) // world * world]))[distributed.rank() :: world]

    def batches(epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number, group in plan(epoch)[skip:]:
            yield load(group, np.random.default_rng([args.seed, epoch, number]), augment=True)

    def step(batch: tuple[Tensor, Tensor], number: int) -> dict[str, float]:
        loss = margin(embedder(batch[0]), batch[1])
        return {"loss": float(loss.detach()), "gradient": distributed.update(loss, optimizer, clip=5.0)}

    def evaluate() -> Evaluation:
        feats, classes = load(corpus.indices(True)[:192], np.random.default_rng(1), augment=False)
        cosines = margin.cosines(embedder(feats))
        guess = cosines.argmax(1)
        speaker = (guess // len(RATES) != classes // len(RATES)).float().mean()
        return Evaluation({"class_error": float((guess != classes).float().mean()), "speaker_error": float(speaker)})

    return Run(
        name="speaker",
        networks={"embedder": embedder, "margin": margin},
        optimizers={"adamw": optimizer},
        batches=batches,
        step=step,
        evaluate=evaluate,
        metric="class_error",
        max_steps=10 if args.smoke else 600,
        schedulers={"adamw": warmup_cosine()},
        device=device,
        utterances=lambda epoch, number: corpus.names(plan(epoch)[number][1]),
    )


def export(out: Path, path: Path, smoke: bool = False) -> None:
    """Write the best embedder of the run in `out` as the published layout's `campplus.onnx`."""
    embedder = Embedder(16 if smoke else 128)
    embedder.load_state_dict(checkpointing.best_network(out, "embedder"))
    write_onnx(embedder.eval(), path)


def write_onnx(embedder: Embedder, path: Path) -> None:
    """Write an ONNX file: input float32 `[batch, T, 80]` -> output float32 `[batch, 192]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = {"fbank": {0: torch.export.Dim("batch"), 1: torch.export.Dim("T", min=8)}}
    torch.onnx.export(
        embedder,
        (torch.randn(2, 120, 80),),
        str(path),
        dynamo=True,
        external_data=False,
        verbose=False,
        opset_version=18,
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=shapes,
    )
