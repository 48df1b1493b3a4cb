"""Weights of an XY_Tokenizer: a file written by torch.save, as released, or a Hugging Face folder.

xy_tokenizer.ckpt, MOSS_TTSD_tokenizer      {"generator": state_dict}, or the state_dict itself
DIR/config.json, DIR/model*.safetensors     the same tensors under other names
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tritone.checkpoint.shards import network_files
from tritone.errors import CheckpointError
from tritone.families.moss_ttsd.codec.config import CodecConfig

if TYPE_CHECKING:
    from torch import Tensor

    from tritone.families.moss_ttsd.codec.network import XYTokenizer

ROOTS = (
    "acoustic_decoder acoustic_encoder downsample enhanced_vocos post_rvq_adapter pre_rvq_adapter quantizer "
    "semantic_encoder semantic_encoder_adapter upsample"
)
"""The first parts of its keys."""
_RENAMED = (
    (re.compile(r"\.mlp\.(fc[12])\."), r".\1."),
    (re.compile(r"\.positional_embedding\.weight$"), ".positional_embedding"),
)
"""Names that Hugging Face folders give some tensors, and the released names."""


def load_codec(config: CodecConfig, path: Path) -> XYTokenizer:
    """Return the codec in eval mode, float32, its weights from the file or folder at `path`.

    Raises CheckpointError for missing or unexpected keys, wrong shapes, and codebooks that were never trained.
    """
    from tritone.checkpoint.weights import built
    from tritone.families.moss_ttsd.codec.network import XYTokenizer

    state = read_codec_state(path)
    windows: list[Tensor] = []

    def make() -> XYTokenizer:
        codec = XYTokenizer(config)
        windows.append(codec.enhanced_vocos.head.istft.get_buffer("window").clone())
        return codec

    codec = built(make, state, path)
    window = windows[-1]
    untrained = [key for key, value in state.items() if key.endswith(".inited") and not bool(value.all())]
    if untrained:
        raise CheckpointError(
            f"{path} has codebooks that were never initialised ({', '.join(untrained)} false), so their "
            f"codes have no meaning. Use a trained checkpoint, or set them true for a test with random weights."
        )
    if not window.allclose(codec.enhanced_vocos.head.istft.get_buffer("window"), atol=1e-5):
        raise CheckpointError(f"{path} has a synthesis window other than Hann's, which is not supported.")
    return codec.eval()


def read_codec_state(path: Path) -> dict[str, Tensor]:
    """Return the state_dict at `path` under its released names, floats as float32."""
    if path.is_dir():
        return {_released(key): value for key, value in _safetensors(path).items()}
    from tritone.checkpoint.unwrap import sought
    from tritone.checkpoint.weights import read_state

    state = read_state(path, network=sought(ROOTS, "generator", "codec"))
    return {_released(key): value for key, value in state.items()}


def _released(key: str) -> str:
    for pattern, name in _RENAMED:
        key = pattern.sub(name, key)
    return key


def _safetensors(folder: Path) -> dict[str, Tensor]:
    from tritone.checkpoint.unwrap import sought
    from tritone.checkpoint.weights import read_state

    files = codec_files(folder)
    if not files:
        present = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise CheckpointError(f"{folder} has no *.safetensors; it has {present}")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_state(file, network=sought(ROOTS))
    return state


def codec_files(folder: Path) -> list[Path]:
    """Return the files of weights in a folder: those of a Hugging Face folder, or all others of safetensors."""
    return network_files(folder) or sorted(folder.glob("*.safetensors"))
