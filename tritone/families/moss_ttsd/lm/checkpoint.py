"""Weights of an Asteroid language model from a Hugging Face folder: safetensors or .bin, in one file or in shards.

The heads are tied to the embeddings and the decoder's own embedding table is never read, so files may leave out
either. A folder fused with its codec keeps the codec's tensors below "codec_model.".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tritone.checkpoint.shards import network_files
from tritone.errors import CheckpointError
from tritone.families.moss_ttsd.lm.config import AsteroidConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tritone.families.moss_ttsd.lm.network import AsteroidLM

UNUSED = "model.language_model.embed_tokens.weight"
HEADS, EMBEDDINGS = "lm_heads.", "model.embedding_list."
CODEC = "codec_model."
ROOTS = "model lm_heads codec_model"
"""The first parts of the keys."""


def load_lm(
    config: AsteroidConfig, folder: Path, dtype: torch.dtype | None = None, attention: str = "sdpa"
) -> AsteroidLM:
    """Return the language model in eval mode, its weights as `dtype` (float32 if None).

    Raises CheckpointError when files are missing, damaged, or do not fit the configuration.
    """
    import torch

    from tritone.checkpoint.weights import load_strict
    from tritone.families.moss_ttsd.lm.network import AsteroidLM

    state = dict(read_lm_state(folder, dtype or torch.float32))
    for key in [key for key in state if key.startswith(HEADS)]:
        embedding = state.get(key.replace(HEADS, EMBEDDINGS))
        if embedding is not None and not torch.equal(state[key], embedding):
            raise CheckpointError(
                f"{folder}: {key} differs from {key.replace(HEADS, EMBEDDINGS)}, but the model's heads are tied to its "
                f"embeddings; the files belong to another model or were saved in the middle of a training step."
            )
        del state[key]
    # The weights are gigabytes: no random ones are made first, and those of a float32 file stay mapped from it.
    try:
        with torch.device("meta"):
            lm = AsteroidLM(config, attention)
    except Exception as error:
        raise CheckpointError(f"{folder}: no language model can be made of its settings: {error}") from error
    decoder = lm.model.language_model
    decoder.rotary_emb = type(decoder.rotary_emb)(decoder.config)
    load_strict(lm, state, folder, assign=True)
    return lm.eval()


def read_lm_state(folder: Path, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Yield key and tensor of every weight of the language model, floats as `dtype`, reading one file at a time."""
    from tritone.checkpoint.unwrap import sought
    from tritone.checkpoint.weights import read_state

    files = network_files(folder)
    if not files:
        present = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else "nothing"
        raise CheckpointError(
            f"{folder} has no weights: neither model*.safetensors nor pytorch_model*.bin; it has {present or 'nothing'}"
        )
    for file in files:
        for key, value in read_state(file, widen=False, network=sought(ROOTS)).items():
            if key != UNUSED and not key.startswith(CODEC):
                yield key, value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
