"""Sizes and settings of a Bert-VITS2 checkpoint, read from the `config.json` beside it.

The sections `model` and `data` become frozen dataclasses; `train` is kept as it is, for training. An unknown key is an
error that lists the known keys, and so is a combination of values that the networks cannot have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tritone.checkpoint.documents import read_json
from tritone.checkpoint.notes import note
from tritone.checkpoint.sizes import HEADS, KERNEL, LAYERS, RATE, WINDOW, Bound, check_fields, shown, whole
from tritone.errors import ConfigError
from tritone.families.bert_vits2.contradictions import contradiction
from tritone.families.bert_vits2.emotion import BY_VERSION, CLUSTERS, UNSAVED, Emotion

BERT_CHANNELS = 1024
"""Width of the features of every BERT encoder, in every version from 2.0 to 2.3."""
SECTIONS = frozenset(("model", "data", "train", "version"))
VERSIONS = ("2.0", "2.1", "2.2", "2.3")
DECODER_KERNEL = 7
"""Width of the decoder's first and last convolution."""

BOUNDS = {
    **dict.fromkeys(("n_layers", "n_layers_q", "n_layers_trans_flow", "n_flow_layer"), LAYERS),
    **dict.fromkeys(("filter_length", "hop_length", "win_length"), WINDOW),
    **dict.fromkeys(("kernel_size", "resblock_kernel_sizes", "resblock_dilation_sizes"), KERNEL),
    **dict.fromkeys(("upsample_rates", "upsample_kernel_sizes"), KERNEL),
    "gin_channels": Bound(0, 32768),
    "n_heads": HEADS,
    "n_mel_channels": Bound(1, 512),
    "n_speakers": Bound(0, 1 << 20),
    "sampling_rate": RATE,
}
"""The bounds of the sizes by name; widths have the usual one."""
Section = TypeVar("Section")


@dataclass(frozen=True)
class ModelConfig:
    """The `model` section; the defaults are those of 2.3. `slm` describes the WavLM of training and is kept raw."""

    use_spk_conditioned_encoder: bool = True
    use_noise_scaled_mas: bool = True
    use_mel_posterior_encoder: bool = False
    use_duration_discriminator: bool = True
    use_transformer_flow: bool = True
    use_sdp: bool = True
    use_spectral_norm: bool = False
    flow_share_parameter: bool = False
    inter_channels: int = 192
    hidden_channels: int = 192
    filter_channels: int = 768
    n_heads: int = 2
    n_layers: int = 6
    n_layers_q: int = 3
    n_flow_layer: int = 4
    n_layers_trans_flow: int = 4
    kernel_size: int = 3
    p_dropout: float = 0.1
    resblock: str = "1"
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2, 2)
    upsample_initial_channel: int = 512
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 8, 2, 2)
    gin_channels: int = 512
    slm: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """The `data` section: spectrogram, blanks, speakers. Without `mel_fmax`, it is half the sampling rate."""

    training_files: str = ""
    validation_files: str = ""
    max_wav_value: float = 32768.0
    sampling_rate: int = 44100
    filter_length: int = 2048
    hop_length: int = 512
    win_length: int = 2048
    n_mel_channels: int = 128
    mel_fmin: float = 0.0
    mel_fmax: float | None = None
    add_blank: bool = True
    n_speakers: int = 850
    cleaned_text: bool = True
    spk2id: Mapping[str, int] = field(default_factory=dict)

    @property
    def spec_channels(self) -> int:
        """The number of bins of the linear spectrogram, the posterior encoder's input."""
        return self.filter_length // 2 + 1


@dataclass(frozen=True)
class BertVits2Config:
    """The content of `config.json`; `version` is one of `VERSIONS`, `train` the raw section.

    Args:
        version_stated: whether the file has a version; without one, the weights tell it (`emotion.told_by_weights`).
        codebook_saved: whether weights of 2.1 have the codebook of emotions.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: Mapping[str, Any] = field(default_factory=dict)
    version: str = "2.3"
    version_stated: bool = True
    codebook_saved: bool = True

    @property
    def emotion(self) -> Emotion:
        """The emotion input of the text encoder."""
        kind = BY_VERSION[self.version]
        return UNSAVED if kind is CLUSTERS and not self.codebook_saved else kind

    def __post_init__(self) -> None:
        for name, section in (("model", self.model), ("data", self.data)):
            check_fields(section, BOUNDS, {}, name, ConfigError)
        problem = contradiction(self.model, self.data)
        if problem:
            raise ConfigError(f"The configuration is inconsistent or not supported: {problem}.")


def read_config(path: Path | str) -> BertVits2Config:
    """Return the configuration in a `config.json`; raise ConfigError if it is missing, not JSON, or invalid."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; a Bert-VITS2 checkpoint needs its config.json.")
    document = read_json(path)
    surplus = sorted(str(key) for key in set(document) - SECTIONS) if isinstance(document, Mapping) else []
    if surplus:
        note(f"{path}: keys of other programs are not read: {', '.join(surplus)[:400]}")
        document = {key: value for key, value in document.items() if key in SECTIONS}
    try:
        return parse_config(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(document: Any) -> BertVits2Config:
    """Return the configuration in a document with the sections `model`, `data`, `train` and the key `version`.

    All four are optional; without a version, the document is read as 2.3 until weights tell more.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(f"expected an object with model, data and train, found {type(document).__name__}.")
    _known(document, tuple(SECTIONS), "the configuration")
    train = document.get("train", {})
    if not isinstance(train, Mapping):
        raise ConfigError(f"train is {shown(train)}; expected an object.")
    return BertVits2Config(
        model=parse_section(ModelConfig, document.get("model", {}), "model"),
        data=parse_section(DataConfig, document.get("data", {}), "data"),
        train=train,
        version=published_version(document.get("version", "2.3")),
        version_stated="version" in document,
    )


def published_version(value: Any) -> str:
    """Return the entry of `VERSIONS` for the `version` of a config ("2.0.1" is 2.0); ConfigError if unsupported."""
    version = ".".join(str(value).split(".")[:2])
    if version not in VERSIONS:
        extra = " 2.4 is the Extra line, whose text encoders differ (one language, one BERT)." * (version == "2.4")
        raise ConfigError(f"version {value!r} is not supported; {', '.join(VERSIONS)} are.{extra}")
    return version


def parse_section(kind: type[Section], values: Any, name: str) -> Section:
    """Return the dataclass `kind` from an object of a configuration; ConfigError for unknown keys and wrong types."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} is {shown(values)}; expected an object.")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _known(values, tuple(fields), name)
    default = kind()
    given = {key: _ids(value) if f"{name}.{key}" == "data.spk2id" else value for key, value in values.items()}
    return kind(**{key: _typed(value, getattr(default, key), f"{name}.{key}") for key, value in given.items()})


def _ids(value: Any) -> Any:
    """Return a table of speakers with the rows that are text as numbers; a list of names as a table."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = {name: row for row, name in enumerate(value)}
    if not isinstance(value, Mapping):
        return value
    return {
        name: int(row) if isinstance(row, str) and row.isascii() and row.isdecimal() and len(row) < 10 else row
        for name, row in value.items()
    }


def _known(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown, names = sorted(str(key) for key in set(values) - set(known)), ", ".join(sorted(known))
    if unknown:
        raise ConfigError(f"{where} has unknown keys: {', '.join(unknown)[:400]}; the known keys are {names}.")


def _typed(value: Any, default: Any, name: str) -> Any:
    """Return the value converted to the type of a field with this default; ConfigError if it does not fit."""
    if isinstance(value, list):
        value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if default is None:
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return None if value is None else float(value)
        raise ConfigError(f"{name} is {shown(value)}; expected a number or null.")
    expected: Any = Mapping if isinstance(default, Mapping) else type(default)
    if expected is float and type(value) is int:
        value = float(value)
    if not isinstance(value, expected) or isinstance(value, bool) != isinstance(default, bool):
        kind = {"tuple": "list", "Mapping": "object"}.get(expected.__name__, expected.__name__)
        raise ConfigError(f"{name} is {shown(value)}; expected {kind}.")
    empty = expected is tuple and not value and name.startswith("model.")
    if empty or (expected is tuple and default and any(type(entry) is not type(default[0]) for entry in value)):
        raise ConfigError(f"{name} is {shown(value)}; expected a list with entries like {default[0]!r}.")
    inner = [entry for entry in value if isinstance(entry, tuple)] if expected is tuple else []
    if not all(entry and all(type(number) is int for number in entry) for entry in inner):
        raise ConfigError(f"{name} is {shown(value)}; expected lists of whole numbers.")
    if name == "data.spk2id":
        for speaker, row in value.items():
            whole(row, f"{name}: the row of {str(speaker)[:60]!r}", Bound(0, 1 << 20))
    return value
