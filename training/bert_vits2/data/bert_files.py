"""BERT features of a text, in a file beside its recording: `x.bert.zh.npz` (or `jp`, `en`) beside `x.wav`.

If that file is missing, the published `x.bert.pt` is read, a tensor without information about its origin.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from training.bert_vits2.data.arrays import read_array, write_array
from training.bert_vits2.data.filelist import Utterance
from tritone.checkpoint.weights import read_data
from tritone.errors import ArtifactError
from tritone.families.bert_vits2.config import BERT_CHANNELS as WIDTH
from tritone.families.bert_vits2.text.bert import BertEncoder


def bert_path(wav: Path, language: str) -> Path:
    """Return the path of the features of a recording's text."""
    return wav.with_suffix(f".bert.{language.lower()}.npz")


def published_path(wav: Path) -> Path:
    """Return the path of the features written by the published preprocessing."""
    return wav.with_suffix(".bert.pt")


def has_bert(utterance: Utterance) -> bool:
    """Return whether the features of an utterance's text are on disk."""
    wav = Path(utterance.wav)
    return bert_path(wav, utterance.language).is_file() or published_path(wav).is_file()


def make_bert(utterance: Utterance, folder: Path, add_blank: bool = True, half: bool = False) -> bool:
    """Write the features of an utterance's text by the encoder in `folder`; return False if they were there already.

    Args:
        add_blank: whether the text encoder takes blanks between phones.
        half: store float16, half the size.

    Raises:
        CheckpointError: the encoder is missing or unusable.
        InvalidRequest: the encoder's units differ from those that the text was cleaned with.
        EnvironmentProblem: a package is missing, or the disk is full.
    """
    from tritone.families.bert_vits2.text.symbols import blanked_word2ph

    word2ph = blanked_word2ph(utterance.word2ph) if add_blank else utterance.word2ph
    dtype = "float16" if half else "float32"
    about = _about(utterance) | {"encoder": _identity(folder), "phones": sum(word2ph), "dtype": dtype}
    path = bert_path(Path(utterance.wav), utterance.language)
    try:
        if read_array(path, about) is not None:
            return False
    except ArtifactError:
        pass  # damaged: computed again
    features = _encoder(folder, utterance.language).features(utterance.text, word2ph)
    write_array(path, features.astype(dtype), about)
    return True


@lru_cache(maxsize=3)
def _encoder(folder: Path, language: str) -> BertEncoder:
    return BertEncoder(folder, language, WIDTH, "cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=3)
def _identity(folder: Path) -> str:
    """Return an identity of an encoder that is equal on every machine: a hash of names, sizes and configuration."""
    files = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    config = folder / "config.json"
    text = repr(files) + (config.read_text(encoding="utf-8") if config.is_file() else "")
    return f"{folder.name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def read_bert(utterance: Utterance, phones: int) -> np.ndarray:
    """Return the features of an utterance's text, float32 `[1024, phones]`.

    Args:
        phones: number of phones that the text encoder takes, blanks included.

    Raises:
        ArtifactError: the file is missing, damaged, of another text, or of another number of phones.
    """
    wav = Path(utterance.wav)
    path = bert_path(wav, utterance.language)
    if path.is_file():
        features = read_array(path, _about(utterance))
        if features is None:
            raise ArtifactError(
                f"{path} was made from another text or word2ph than that of the filelist. {_again(utterance)}"
            )
    else:
        path = published_path(wav)
        features = _read_published(path, utterance)
    if features.shape != (WIDTH, phones):
        raise ArtifactError(
            f"{path} has features of shape {list(features.shape)}; the text needs {[WIDTH, phones]}. "
            f"{_again(utterance)}"
        )
    return features.astype(np.float32)


def missing(utterance: Utterance) -> str:
    """Return the message for missing features."""
    path = bert_path(Path(utterance.wav), utterance.language)
    return f"{path} is missing (and {published_path(Path(utterance.wav)).name} too). {_again(utterance)}"


def _read_published(path: Path, utterance: Utterance) -> np.ndarray:
    if not path.is_file():
        raise ArtifactError(missing(utterance))
    try:
        tensor = read_data(path)
        array: np.ndarray = tensor.float().numpy()
        return array
    except Exception as error:  # on bytes that are not a tensor, torch raises errors of many types
        raise ArtifactError(f"{path} is damaged ({error}). {_again(utterance)}") from error


def _about(utterance: Utterance) -> dict[str, object]:
    return {"text": utterance.text, "word2ph": list(utterance.word2ph)}


def _again(utterance: Utterance) -> str:
    return (
        f"Run `python -m training.bert_vits2.preprocess bert --list FILELIST --model {utterance.language}=FOLDER`, or "
        f"train without {utterance.language} features: remove {utterance.language} from train.bert_languages."
    )
