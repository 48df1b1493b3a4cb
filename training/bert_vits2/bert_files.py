"""Features of a text by a BERT encoder, kept beside its recording: `x.wav` has `x.bert.zh.npz`, `jp` or `en`.

The published `x.bert.pt`, a tensor without a word about its origin, is read where there is no such file.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from training.bert_vits2.arrays import read_array, write_array
from training.bert_vits2.filelist import Utterance
from tritone.errors import ArtifactError

WIDTH = 1024
"""Features per phone that the text encoder takes of every language."""


def bert_path(wav: Path, language: str) -> Path:
    """Where the features of the recording's text are kept."""
    return wav.with_suffix(f".bert.{language.lower()}.npz")


def published_path(wav: Path) -> Path:
    """Where the published preprocessing keeps them."""
    return wav.with_suffix(".bert.pt")


def has_bert(utterance: Utterance) -> bool:
    """Whether there is a file of features for it."""
    wav = Path(utterance.wav)
    return bert_path(wav, utterance.language).is_file() or published_path(wav).is_file()


def keep_bert(utterance: Utterance, features: np.ndarray, model: str) -> None:
    """Writes the features `[1024, phones]` of its text by `model`, atomically, in their own dtype."""
    about = _about(utterance) | {"model": model}
    write_array(bert_path(Path(utterance.wav), utterance.language), features, about)


def is_kept(utterance: Utterance, model: str) -> bool:
    """Whether the features of exactly this text by `model` are there and whole."""
    try:
        about = _about(utterance) | {"model": model}
        return read_array(bert_path(Path(utterance.wav), utterance.language), about) is not None
    except ArtifactError:
        return False


def read_bert(utterance: Utterance, phones: int) -> np.ndarray:
    """The features of its text, float32 `[1024, phones]`.

    Args:
        phones: how many the text encoder is given, blanks included.

    Raises:
        ArtifactError: there is no file, it is damaged, of another text, or of another number of phones.
    """
    wav = Path(utterance.wav)
    path = bert_path(wav, utterance.language)
    if path.is_file():
        features = read_array(path, _about(utterance))
        if features is None:
            raise ArtifactError(
                f"{path} was made of another text or word2ph than the filelist has. {_again(utterance)}"
            )
    else:
        path = published_path(wav)
        features = _read_published(path, utterance)
    if features.shape != (WIDTH, phones):
        raise ArtifactError(
            f"{path} holds features of shape {list(features.shape)}, the text needs {[WIDTH, phones]}. "
            f"{_again(utterance)}"
        )
    return features.astype(np.float32)


def missing(utterance: Utterance) -> str:
    """What to say when there are none."""
    path = bert_path(Path(utterance.wav), utterance.language)
    return f"there is no {path} (nor {published_path(Path(utterance.wav)).name}). {_again(utterance)}"


def _read_published(path: Path, utterance: Utterance) -> np.ndarray:
    import torch

    if not path.is_file():
        raise ArtifactError(missing(utterance))
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
        array: np.ndarray = tensor.float().numpy()
        return array
    except (OSError, RuntimeError, EOFError, ValueError, AttributeError, pickle.UnpicklingError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). {_again(utterance)}") from error


def _about(utterance: Utterance) -> dict[str, object]:
    return {"text": utterance.text, "word2ph": list(utterance.word2ph)}


def _again(utterance: Utterance) -> str:
    return (
        f"Run `python -m training.bert_vits2.preprocess bert --list FILELIST --model {utterance.language}=FOLDER`, or "
        f"train without {utterance.language} features by leaving it out of the configuration's BERT languages."
    )
