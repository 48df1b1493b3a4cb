"""The official CosyVoice checkpoint folder: read strictly and as data, and written in the same layout.

    cosyvoice2.yaml  llm.pt  flow.pt  hift.pt  campplus.onnx  speech_tokenizer_v2.onnx  [spk2info.pt]
    CosyVoice-BlankEN/: the backbone's config.json and the text tokenizer

The name of the YAML tells the version; v1 (`cosyvoice.yaml`) has no backbone. Each network may also lie in a file of
safetensors. Reading the configuration does not need torch; reading and writing weights does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.checkpoint.beside import present
from tritone.checkpoint.documents import YAML_BYTES, read_object, read_text
from tritone.checkpoint.files_read import TEXT_TOKENIZER, existing, networks, relative, weights
from tritone.checkpoint.sizes import check_transformer
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml, render_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.versions import BACKBONE, VERSIONS, Version

if TYPE_CHECKING:
    from torch import Tensor

YAMLS = {number: version.yaml for number, version in VERSIONS.items()}
"""File names by version, in the order in which the published code looks for them."""
YAML = YAMLS[2]
STATES = {
    "llm": "llm llm_decoder llm_embedding speech_embedding text_embedding text_encoder text_encoder_affine_layer "
    "spk_embed_affine_layer",
    "flow": "decoder encoder encoder_proj input_embedding length_regulator pre_lookahead_layer spk_embed_affine_layer",
    "hift": "conv_post conv_pre f0_predictor m_source resblocks source_downs source_resblocks ups",
}
"""The networks, and the first parts of their keys in any version."""
SPEAKERS = "spk2info.pt"
SPEAKER_EMBEDDER = "campplus.onnx"
WHISPER_VOCABULARY = "multilingual.tiktoken"
SPEECH_TOKENIZER = "speech_tokenizer_v2.onnx"


def needed(version: Version) -> tuple[str, ...]:
    """Return the files without which a checkpoint of that version cannot be opened."""
    return (version.yaml, *(f"{name}.pt" for name in STATES), *version.files)


def version_of(directory: Path) -> Version:
    """Return the version whose YAML the directory has; v2 if it has none."""
    return next((version for version in VERSIONS.values() if (directory / version.yaml).is_file()), VERSIONS[2])


class CosyVoiceCheckpoint:
    """A checkpoint folder whose configuration has been read and whose required files exist.

    Raises CheckpointError if the folder or a required file is missing, or if the configuration is invalid.
    """

    def __init__(self, model_dir: Path | str) -> None:
        self.dir = Path(model_dir)
        self.config = load_config(self.dir)
        for name in needed(self.config.version):
            self.path(name)

    def __repr__(self) -> str:
        return f"CosyVoiceCheckpoint({str(self.dir)!r})"

    def path(self, name: str) -> Path:
        """Return the path of a file of the folder; CheckpointError if it is missing.

        For weights, that of the file of safetensors where there is no other.
        """
        return _required(self.dir, name)

    def state(self, name: str, widen: bool = True) -> dict[str, Tensor]:
        """Return the state_dict of "llm", "flow" or "hift", by default in float32."""
        return load_state(self.dir, name, widen)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that answers depend on, below the folder: settings, weights, recording networks, tokenizer."""
        version = self.config.version
        found = existing(self.dir, (version.yaml, *version.files, WHISPER_VOCABULARY))
        found += weights(self.dir, (f"{name}.pt" for name in STATES))
        found += networks(self.dir, (SPEAKER_EMBEDDER, version.speech_tokenizer))
        found += existing(self.dir / BACKBONE, TEXT_TOKENIZER)
        return relative(self.dir, found)

    @property
    def backbone(self) -> dict[str, Any]:
        """The configuration of the Qwen2 backbone."""
        path = self.path(f"{BACKBONE}/config.json")
        backbone = read_object(path, kind=CheckpointError)
        check_transformer(backbone, str(path), CheckpointError)
        return backbone


def load_config(model_dir: Path | str) -> CosyVoiceConfig:
    """Return the configuration in the folder's YAML; missing keys have the values of the published classes."""
    directory = Path(model_dir)
    version = version_of(directory)
    path = _required(directory, version.yaml)
    return parse_yaml(read_text(path, YAML_BYTES, CheckpointError), path, version.number)


def load_state(model_dir: Path | str, name: str, widen: bool = True) -> dict[str, Tensor]:
    """Return the state_dict of "llm", "flow" or "hift"; floats as float32 if `widen`.

    What trainers save around it is taken off, such as the other half of GAN training around hift.
    """
    if name not in STATES:
        raise CheckpointError(f"unknown network {name!r}; a CosyVoice checkpoint has {', '.join(STATES)}.")
    from tritone.checkpoint.unwrap import sought
    from tritone.checkpoint.weights import read_state

    directory = Path(model_dir)
    _required(directory, f"{name}.pt")
    names = (name, *(("generator",) if name == "hift" else ()))
    return read_state(directory / f"{name}.pt", widen, sought(STATES[name], *names))


def write_checkpoint(
    model_dir: Path | str, config: CosyVoiceConfig, states: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write the YAML and `<name>.pt` of each given network; other files of the folder are not touched."""
    from tritone.checkpoint.weights import write_state, write_text

    directory = Path(model_dir)
    for name, state in states.items():
        if name not in STATES:
            raise CheckpointError(f"unknown network {name!r}; a CosyVoice checkpoint has {', '.join(STATES)}.")
        write_state(directory / f"{name}.pt", state)
    write_text(directory / config.version.yaml, render_yaml(config))


def _required(directory: Path, name: str) -> Path:
    """Return `directory / name`; if it is missing, CheckpointError with the files present and the files required."""
    required = ", ".join(needed(version_of(directory)))
    if not directory.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {directory}; a checkpoint needs {required}.")
    path = directory / name
    found = present(path) if path.suffix == ".pt" else [path] * path.is_file()
    if found:
        return found[0]
    names = sorted(entry.name for entry in directory.iterdir())
    raise CheckpointError(
        f"{directory} has no {name}; it has {', '.join(names) if names else 'no files'}, "
        f"and a checkpoint needs {required}" + (f" (or {YAMLS[1]} or {YAMLS[3]})." if name == YAML else ".")
    )
