"""Batches of utterances, and epochs of batches for the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.bert_vits2.data.batch import Batch
from training.bert_vits2.data.buckets import BucketSampler
from training.bert_vits2.data.dataset import Item, SpeechDataset


def collate(items: Sequence[Item]) -> Batch:
    """Return the batch of these utterances, the longest first; utterances of equal length keep their order."""
    items = sorted(items, key=lambda item: -item.spectrogram.shape[1])
    phones, spectrograms = [item.phones for item in items], [item.spectrogram for item in items]
    bert, ja_bert, en_bert = (pad([item.bert[i] for item in items]) for i in range(3))
    return Batch(
        phones=pad(phones),
        phone_lengths=sizes(phones),
        tones=pad([item.tones for item in items]),
        languages=pad([item.languages for item in items]),
        bert=bert,
        ja_bert=ja_bert,
        en_bert=en_bert,
        speaker=torch.tensor([item.speaker for item in items]),
        spectrogram=pad(spectrograms),
        frames=sizes(spectrograms),
        wave=pad([item.wave for item in items]),
    )


def pad(tensors: Sequence[Tensor]) -> Tensor:
    """Return `[batch, ..., longest]`: the tensors, which may differ in their last size, followed by zeros."""
    padded = tensors[0].new_zeros(len(tensors), *tensors[0].shape[:-1], max(t.shape[-1] for t in tensors))
    for row, tensor in zip(padded, tensors, strict=True):
        row[..., : tensor.shape[-1]] = tensor
    return padded


def sizes(tensors: Sequence[Tensor]) -> Tensor:
    """Return the last size of each tensor, int64 `[batch]`."""
    return torch.tensor([t.shape[-1] for t in tensors])


class Epochs:
    """The batches of each epoch for this process, loaded by worker processes.

    The global random generators are not used, so that a resumed run draws the same numbers as an uninterrupted one.

    Args:
        workers: processes that load batches ahead; 0 loads them in this process.
        prefetch: batches each worker keeps ready.
        pin: whether batches go to a GPU.
    """

    def __init__(
        self, dataset: SpeechDataset, sampler: BucketSampler, workers: int = 0, prefetch: int = 4, pin: bool = False
    ) -> None:
        self._sampler, self._plan = sampler, _Plan()
        options: dict[str, Any] = {}
        if workers > 0:
            options = {"persistent_workers": True, "prefetch_factor": prefetch}
        self._loader = DataLoader(
            dataset, batch_sampler=self._plan, collate_fn=collate, num_workers=workers, pin_memory=pin,
            generator=torch.Generator().manual_seed(0), **options,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._sampler)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch without the first `skip`, which are not loaded."""
        self._plan.batches = [[(epoch, i) for i in batch] for batch in self._sampler.batches(epoch, skip)]
        return iter(self._loader)


class _Plan:
    """A batch sampler for the workers whose batches are set before each epoch."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
