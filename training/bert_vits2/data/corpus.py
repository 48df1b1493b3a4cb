"""The two filelists of a configuration as batches: epochs for training, and single utterances for evaluation."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.bert_vits2.config import Settings
from training.bert_vits2.data.batch import Batch
from training.bert_vits2.data.buckets import BucketSampler
from training.bert_vits2.data.collate import Epochs, collate
from training.bert_vits2.data.dataset import SpeechDataset
from training.bert_vits2.data.filelist import read_utterances
from training.core import distributed
from training.core.run import LOG
from tritone.errors import ConfigError
from tritone.families.bert_vits2.text.filler import BY_VERSION


class Training:
    """This process's share of the training list.

    `epochs.batches(epoch, skip)` returns its batches; `order` contains the values that determine their order.
    """

    def __init__(self, settings: Settings, pin: bool = False) -> None:
        train = settings.train
        self.dataset = dataset(settings, settings.family.data.training_files, "training_files")
        lengths = speakable(self.dataset, settings.family.data.add_blank)
        replicas, rank = distributed.world_size(), distributed.rank()
        sampler = BucketSampler(lengths, train.batch_size, train.bucket_boundaries, replicas, rank, train.seed)
        self.report = sampler.report()
        (LOG.warning if sampler.dropped else LOG.info)("%s", self.report)
        self.epochs = Epochs(self.dataset, sampler, train.workers, pin=pin)
        self._sampler = sampler
        names = "\n".join(f"{u.wav} {length}" for u, length in zip(self.dataset.utterances, lengths, strict=True))
        self.order: dict[str, Any] = {
            "batch_size": train.batch_size,
            "bucket_boundaries": list(train.bucket_boundaries),
            "seed": train.seed,
            "processes": replicas,
            "utterances": hashlib.sha256(names.encode()).hexdigest()[:16],
        }

    def utterances(self, epoch: int, number: int) -> list[str]:
        """Return the recordings in a batch of an epoch."""
        return [self.dataset.utterances[i].wav for i in next(self._sampler.batches(epoch, number))]


def validation(settings: Settings, device: torch.device) -> list[Batch]:
    """Return the first utterances of the validation list, or of the training list if it is empty, each as a batch."""
    data, train = settings.family.data, settings.train
    path, name = data.validation_files, "validation_files"
    if not path or not Path(path).is_file() or not Path(path).read_text(encoding="utf-8").strip():
        LOG.warning("data.validation_files has no utterances: evaluating on the training list instead")
        path, name = data.training_files, "training_files"
    candidates = dataset(settings, path, name)
    frames = train.segment_size // data.hop_length
    lengths = speakable(candidates, data.add_blank)
    chosen = [i for i, length in enumerate(lengths) if length >= frames][: train.eval_utterances]
    if not chosen:
        raise ConfigError(f"{path} has no utterance of at least {frames} frames to evaluate on; see data.{name}.")
    return [collate([candidates[i]]).to(device) for i in chosen]


def dataset(settings: Settings, path: str, name: str) -> SpeechDataset:
    """Return the utterances of one filelist; ConfigError when the configuration names none."""
    family, train = settings.family, settings.train
    if not path:
        raise ConfigError(f"data.{name} is not set. Run `python -m training.bert_vits2.preprocess split` first.")
    fewest, most = train.phone_limits
    utterances = SpeechDataset(
        read_utterances(Path(path)),
        family.data,
        bert=train.bert_languages,
        filler=train.bert_filler or BY_VERSION[family.version],
        phone_limits=(fewest, most),
        cache=train.spectrogram_cache,
        seed=train.seed,
    )
    for reason in utterances.left_out:
        LOG.info("left out: %s", reason)
    return utterances


def speakable(dataset: SpeechDataset, add_blank: bool) -> np.ndarray:
    """Return the frames of each utterance, 0 with a warning if it has fewer frames than phones and so no alignment."""
    phones = np.array([len(u.phones) * (1 + add_blank) + add_blank for u in dataset.utterances])
    fits = dataset.lengths >= phones
    for i in np.flatnonzero(~fits):
        LOG.warning("left out: %s: %d frames for %d phones", dataset.utterances[i].wav, dataset.lengths[i], phones[i])
    return np.where(fits, dataset.lengths, 0)
