"""Utterances as inputs of the networks: ids, tones, languages, BERT features, spectrogram and samples."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.bert_vits2.data.bert_files import has_bert, missing, read_bert
from training.bert_vits2.data.filelist import LANGUAGES, SHOWN, Utterance
from training.bert_vits2.data.recording import read_recording, samples_in
from training.bert_vits2.data.spectrogram_cache import cached_spectrogram, keep_spectrogram, linear_spectrogram
from tritone.errors import ArtifactError, ConfigError, InvalidRequest, TritoneError
from tritone.families.bert_vits2.config import BERT_CHANNELS, DataConfig
from tritone.families.bert_vits2.text.filler import fillers

LOG = logging.getLogger("training")


@dataclass(frozen=True)
class Item:
    """One utterance.

    Args:
        phones, tones, languages: int64 `[phones]`, blanks included.
        bert: float32 `[1024, phones]` for each of `LANGUAGES`, in their order.
        spectrogram: float32 `[bins, frames]`. wave: float32 `[frames * hop]` in -1..1.
        speaker: its id, 0 where the networks have no table of speakers.
    """

    phones: Tensor
    tones: Tensor
    languages: Tensor
    bert: tuple[Tensor, ...]
    spectrogram: Tensor
    wave: Tensor
    speaker: int


class SpeechDataset(Dataset[Item]):
    """The utterances of a cleaned filelist; files are checked once at the start and read on access.

    `dataset[epoch, index]` is an `Item`, a function of the files, the seed and its arguments alone; `dataset[index]` is
    that of epoch 0. `lengths` has the frames of each utterance, `left_out` those that the phone limits removed.

    Args:
        data: sample rate, transform, blanks between phones, and the ids of speakers.
        bert: languages whose features are read from files; utterances in other languages get filler. Empty trains
            without BERT.
        filler: kind of the filler (`text/filler.py`), drawn from the seed, the epoch and the index.
        phone_limits: smallest and largest number of phones, without blanks, of the utterances to keep.
        cache: keep computed spectrograms beside the recordings.

    Raises:
        ArtifactError: a recording or BERT file is missing or unusable, or a phone or tone is unknown; up to ten
            problems are listed.
        ConfigError: a speaker has no id, a filler or language is unknown, or the limits exclude every utterance.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        data: DataConfig,
        *,
        bert: Collection[str] = LANGUAGES,
        filler: str = "normal",
        phone_limits: tuple[int, int] = (1, 384),
        cache: bool = False,
        seed: int = 0,
    ) -> None:
        fillers(filler, seed)  # raises now rather than at the first batch
        if set(bert) - set(LANGUAGES):
            raise ConfigError(f"unknown BERT languages {sorted(set(bert) - set(LANGUAGES))}; known are {LANGUAGES}.")
        self.data, self.bert, self.filler, self.cache, self.seed = data, frozenset(bert), filler, cache, seed
        low, high = phone_limits
        self.utterances = [u for u in utterances if low <= len(u.phones) <= high]
        self.left_out = [
            f"{u.wav}: has {len(u.phones)} phones, the limits are {low} to {high}"
            for u in utterances
            if not low <= len(u.phones) <= high
        ]
        if not self.utterances:
            raise ConfigError(f"none of {len(utterances)} utterances has {low} to {high} phones.")
        unknown = sorted({u.speaker for u in self.utterances} - set(data.spk2id))
        if unknown and data.n_speakers:
            raise ConfigError(
                f"no id for speaker {', '.join(unknown[:SHOWN])}; the configuration's data.spk2id has "
                f"{len(data.spk2id)} speakers. Run `python -m training.bert_vits2.preprocess split`, which writes it."
            )
        self.lengths = self._look()

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        utterance = self.utterances[index]
        phones, tones, languages = encode(utterance, self.data.add_blank)
        wav, spectrogram = self._sound(Path(utterance.wav))
        return Item(
            phones, tones, languages,
            tuple(self._bert(utterance, language, len(phones), epoch, index) for language in LANGUAGES),
            spectrogram, wav, self.data.spk2id[utterance.speaker] if self.data.n_speakers else 0,
        )  # fmt: skip

    def _look(self) -> np.ndarray:
        """Return the frames of each utterance, int64; raise ArtifactError if files are missing or unusable."""
        problems: list[str] = []
        lengths = np.zeros(len(self.utterances), np.int64)
        for i, utterance in enumerate(self.utterances):
            try:
                lengths[i] = samples_in(Path(utterance.wav), self.data.sampling_rate) // self.data.hop_length
                encode(utterance, self.data.add_blank)
            except ArtifactError as error:
                problems.append(str(error))
            except InvalidRequest as error:
                problems.append(f"{utterance.wav}: {error}")
            if utterance.language in self.bert and not has_bert(utterance):
                problems.append(missing(utterance))
        if problems:
            rest = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise ArtifactError("the data is not complete:\n  " + "\n  ".join(problems[:SHOWN]) + rest)
        return lengths

    def _sound(self, path: Path) -> tuple[Tensor, Tensor]:
        samples = read_recording(path, self.data.sampling_rate)
        spectrogram = cached_spectrogram(path, self.data) if self.cache else None
        if spectrogram is None:
            spectrogram = linear_spectrogram(path, samples, self.data)
            if self.cache:
                try:
                    keep_spectrogram(path, spectrogram, self.data)
                except (TritoneError, OSError) as error:  # training continues without a cache
                    LOG.warning("no spectrogram cache: %s", error)
        return torch.from_numpy(samples[: spectrogram.shape[1] * self.data.hop_length]), spectrogram

    def _bert(self, utterance: Utterance, language: str, phones: int, epoch: int, index: int) -> Tensor:
        if language == utterance.language and language in self.bert:
            return torch.from_numpy(read_bert(utterance, phones))
        seed = (self.seed, epoch, index, LANGUAGES.index(language))
        return torch.from_numpy(fillers(self.filler, seed)((BERT_CHANNELS, phones)))


def encode(utterance: Utterance, add_blank: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ids of an utterance's phones, tones and language, int64 `[phones]` each.

    Args:
        add_blank: whether every phone has blanks around it.

    Raises:
        InvalidRequest: a phone or tone is unknown.
    """
    from tritone.families.bert_vits2.text.symbols import Cleaned, to_ids

    u = utterance
    ids = to_ids([Cleaned(u.text, u.language, u.phones, u.tones, u.word2ph)])
    step = slice(None) if add_blank else slice(1, None, 2)
    phones, tones, languages = (torch.from_numpy(array[step]) for array in (ids.phones, ids.tones, ids.languages))
    return phones, tones, languages
