"""The emotion of a request: an embedding that the caller computed, the number of a cluster, or the checkpoint's own."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.bert_vits2.emotion import CLUSTERS, PROMPTS, UNSAVED, Emotion
from tritone.request.fields import read_number
from tritone.stage import Arrays

if TYPE_CHECKING:
    from tritone.families.bert_vits2.config import BertVits2Config

OWN_EMOTIONS = ("emotion.npy", "empty_emo.npy")
"""Files of a checkpoint with the embedding of requests without an emotion; the second is published beside 2.2."""
LARGEST = 1000.0
"""No number of an embedding is larger: CLAP's have the length 1, hidden states of wav2vec2 stay below 100."""
MAKERS = {
    CLUSTERS.numbers: ("the mean of a wav2vec2 model's last hidden states", "2.1"),
    PROMPTS.numbers: ("an embedding of CLAP", "2.2"),
}
"""What has so many numbers, and the version that takes it."""


def read_emotion(request: Arrays, config: BertVits2Config, own: np.ndarray | None = None) -> Arrays:
    """Return the text encoder's emotion inputs, each with a batch of 1; none for a voice without one.

    Args:
        own: the checkpoint's embedding, the default if the request has neither an embedding nor a number.

    Raises InvalidRequest for an emotion that the voice cannot take.
    """
    kind = config.emotion
    sent, numbered = (request[name].size > 0 if name in request else False for name in ("emotion", "emotion_id"))
    for name, given in (("emotion", sent), ("emotion_id", numbered)):
        if given and not (kind.numbers if name == "emotion" else kind.clusters):
            raise InvalidRequest(name, without_effect(config))
    if sent and numbered:
        raise InvalidRequest("emotion_id", "came together with emotion; send one of the two")
    if not kind.numbers:
        return {}
    embedding = read_embedding(request["emotion"], kind) if sent else own
    if embedding is None and not kind.clusters:
        raise InvalidRequest(
            "emotion",
            f"is missing; a voice of version {config.version} takes {kind.numbers} numbers, {MAKERS[kind.numbers][0]}. "
            f"{OWN_EMOTIONS[0]} or the published {OWN_EMOTIONS[1]} in the checkpoint's folder would be the default",
        )
    number = read_cluster(request, kind) if numbered or embedding is None else -1
    taken = np.zeros(kind.numbers, np.float32) if embedding is None or numbered else embedding
    inputs: Arrays = {"emotion": taken[None]}
    return inputs | ({"emotion_id": np.array([number], np.int64)} if kind.clusters else {})


def without_effect(config: BertVits2Config) -> str:
    """Return the reason for which a voice does not take an emotion, or not in this form."""
    if config.emotion is PROMPTS:
        return f"a voice of version 2.2 has no numbered emotions; send emotion, {PROMPTS.numbers} numbers, instead"
    if config.emotion is UNSAVED:
        return "this voice's file has no codebook of emotions (2.1 as first released did not save it); leave it out"
    return f"a voice of version {config.version} takes no emotion (2.1 and 2.2 do); leave it out"


def read_embedding(given: np.ndarray, kind: Emotion) -> np.ndarray:
    """Return an embedding, float32 `[numbers]`; InvalidRequest for another length, or for numbers that none has."""
    numbers = given.reshape(-1).astype(np.float32)
    if len(numbers) != kind.numbers:
        found = " as {} has (version {})".format(*MAKERS[len(numbers)]) if len(numbers) in MAKERS else ""
        what, version = MAKERS[kind.numbers]
        raise InvalidRequest(
            "emotion",
            f"has {len(numbers)} numbers{found}; this voice, of version {version}, takes {kind.numbers}, {what}",
        )
    if not np.isfinite(numbers).all():
        raise InvalidRequest("emotion", "contains NaN or infinite numbers")
    if (largest := float(np.abs(numbers).max())) > LARGEST:
        raise InvalidRequest("emotion", f"reaches {largest:g}; the numbers of embeddings lie within {LARGEST:g} of 0")
    return numbers


def read_cluster(request: Arrays, kind: Emotion) -> int:
    """Return the number of a cluster, by default the first; InvalidRequest if there is none with that number."""
    number = int(read_number(request, "emotion_id", 0))
    if not 0 <= number < kind.clusters:
        raise InvalidRequest("emotion_id", f"is {number}; the numbered emotions are 0 to {kind.clusters - 1}")
    return number


def own_emotion(folder: Path, kind: Emotion) -> np.ndarray | None:
    """Return the embedding in a checkpoint's folder, None if it has no such file or the voice takes no emotion.

    Raises CheckpointError for a file with something else.
    """
    path = next((path for name in OWN_EMOTIONS if (path := folder / name).is_file()), None)
    if path is None or not kind.numbers:
        return None
    try:
        return read_embedding(stored_numbers(path), kind)
    except InvalidRequest as error:
        raise CheckpointError(f"{path} is of no use here: {error.sentence}.") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(
            f"{path} is neither an array that numpy.save wrote nor a tensor that torch.save wrote ({error})."
        ) from error


def stored_numbers(path: Path) -> np.ndarray:
    """Return the float32 numbers of a file by numpy.save or, as published, by torch.save; nothing in it is run."""
    content = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
        if array.dtype.kind not in "fi":
            raise ValueError(f"it has numbers of type {array.dtype}")
        return array
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data/0")]
        if b"FloatStorage" not in archive.read(name.removesuffix("data/0") + "data.pkl"):
            raise ValueError("its tensor is not float32")
        return np.frombuffer(archive.read(name), "<f4")
