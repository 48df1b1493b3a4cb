"""The typed `train` section of a `config.json`, and the whole file with the overrides of the command line.

The file is never written. The published names of `train` are accepted and translated to the names here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.bert_vits2.data.buckets import BOUNDARIES, check_boundaries
from training.bert_vits2.download import Source
from training.core.run import LOG
from tritone.checkpoint.documents import read_json
from tritone.errors import ConfigError
from tritone.families.bert_vits2.config import BertVits2Config, parse_config, parse_section
from tritone.families.bert_vits2.emotion import NONE

NETWORKS = ("G", "D", "WD", "DUR")
"""Generator and discriminators of waves, of WavLM features and of durations: names of networks and their files."""
PRECISIONS = ("fp32", "bf16", "fp16")
DURATION_LOSSES = ("fixed", "published")
SHRINKS = (1, 2, 4, 8, 16)
"""Divisors of the widths of the wave discriminators, whose narrowest layer has 16 channels."""
METRICS = ("mel_from_text", "mel")
"""Metrics that can choose the best evaluation: see `training.bert_vits2.evaluate`."""


@dataclass(frozen=True)
class BaseModel:
    """Weights to start from: `G_0.pth` and, optionally, `D_0.pth`, `WD_0.pth` and `DUR_0.pth` in `folder`.

    Args:
        files: name -> SHA-256 of the files to download into `folder` first; empty if they are already there.
        sources: objects with `url` and `token_env`, tried in order.
        allow_partial: parameters that are missing or of another shape keep their fresh values and are logged.
    """

    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Mapping[str, str], ...] = ()
    allow_partial: bool = False

    def places(self) -> list[Source]:
        """Return the sources, checked."""
        return [parse_section(Source, source, "train.base_model.sources").checked() for source in self.sources]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of training; the defaults are the published values, if they have an effect.

    Args:
        log_interval, eval_interval, save_interval: steps between logs, evaluations and checkpoints.
        lr, lr_decay: learning rate of the first epoch, and its factor from epoch to epoch.
        betas, eps, weight_decay: parameters of AdamW.
        tf32: whether a GPU multiplies float32 in TF32.
        precision: "fp32", or "bf16" or "fp16" inside the networks; "fp16" uses a loss scaler.
        clip_g, clip_d, clip_wd, clip_dur: limit of the norm of each network's gradient; 0 only measures it.
        segment_size: samples of the slices that the decoder is trained on.
        c_mel, c_kl: weights of these two losses.
        mas_noise, mas_noise_step: deviation of the alignment's noise, and its decrease per step.
        duration_loss: loss of the duration discriminator, "fixed" or "published" (which sums probabilities).
        judged_from: first step with the wave discriminators; before it, the generator learns from its other losses.
        judge_shrink: factor by which the wave discriminators are narrower than published; the published ones have 47
            million parameters, too many to train on a CPU.
        wavlm_discriminator: whether to compare and judge WavLM features; WavLM is in the folder `model.slm.model`.
        bucket_boundaries: frame counts between which utterances share a batch; others are left out and counted.
        phone_limits: smallest and largest number of phones of an utterance to train on.
        bert_languages: languages whose BERT features are read from files; empty trains without BERT.
        bert_filler: filler of the other BERT streams, see `text/filler.py`; "" is the version's own.
        workers: processes that load batches; 0 loads them in the training process.
        spectrogram_cache: keep linear spectrograms beside the recordings.
        freeze: patterns of parameters that are not trained, such as `G.enc_p.bert_proj.*`.
        skip_optimizer: a resumed run restores weights and position but not the optimisers.
        keep: number of complete checkpoint sets to keep besides the best.
        eval_utterances: number of utterances at the start of the validation list to evaluate.
        best_by: one of `METRICS`.
    """

    log_interval: int = 200
    eval_interval: int = 1000
    save_interval: int = 1000
    seed: int = 42
    epochs: int = 1000
    lr: float = 2e-4
    lr_decay: float = 0.99995
    betas: tuple[float, ...] = (0.8, 0.99)
    eps: float = 1e-9
    weight_decay: float = 0.01
    batch_size: int = 16
    precision: str = "fp32"
    tf32: bool = True
    clip_g: float = 500.0
    clip_d: float = 200.0
    clip_wd: float = 0.0
    clip_dur: float = 0.0
    segment_size: int = 16384
    c_mel: float = 45.0
    c_kl: float = 1.0
    mas_noise: float = 0.01
    mas_noise_step: float = 2e-6
    duration_loss: str = "fixed"
    judged_from: int = 0
    judge_shrink: int = 1
    wavlm_discriminator: bool = True
    bucket_boundaries: tuple[int, ...] = BOUNDARIES
    phone_limits: tuple[int, ...] = (1, 384)
    bert_languages: tuple[str, ...] = ("ZH", "JP", "EN")
    bert_filler: str = ""
    workers: int = 4
    spectrogram_cache: bool = True
    freeze: tuple[str, ...] = ()
    skip_optimizer: bool = False
    keep: int = 3
    eval_utterances: int = 4
    best_by: str = "mel_from_text"
    base_model: Mapping[str, Any] = field(default_factory=dict)

    def clip(self, network: str) -> float | None:
        """Return the limit of the norm of a network's gradient, None for no limit."""
        return getattr(self, f"clip_{network.lower()}") or None

    @property
    def base(self) -> BaseModel:
        """The typed `base_model`; its folder is "" when training starts from fresh weights."""
        return parse_section(BaseModel, self.base_model, "train.base_model")


@dataclass(frozen=True)
class Settings:
    """A run's configuration: networks and data as the family reads them, and the typed `train` section."""

    family: BertVits2Config
    train: TrainConfig

    def document(self) -> dict[str, Any]:
        """Return the configuration as plain values, which `parse` reads back."""
        about = {"model": asdict(self.family.model), "data": asdict(self.family.data), "train": asdict(self.train)}
        return dict(json.loads(json.dumps(about | {"version": self.family.version})))


def read(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Return the settings in the file at `path` with overrides such as `train.lr=1e-4`, whose values are JSON or text.

    Raises ConfigError for a file that is missing or not JSON, an unknown key, and values that contradict each other.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; --config takes the config.json written by `preprocess split`.")
    document = read_json(path)
    try:
        return parse(document, overrides)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(document: Any, overrides: Sequence[str] = ()) -> Settings:
    """Return the settings in a document with the sections `model`, `data`, `train`, after the overrides."""
    if not isinstance(document, Mapping) or not isinstance(document.get("train", {}), Mapping):
        raise ConfigError("expected an object with the objects model, data and train.")
    changes: dict[str, Any] = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise ConfigError(f"--set {text} is invalid; write it like --set train.lr=1e-4.")
        *parents, last = name.split(".")
        inside = changes
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[last] = _value(value)
    merged = _merge(_translated(document), _translated(changes))
    family = parse_config(merged)
    settings = Settings(family, parse_section(TrainConfig, family.train, "train"))
    if problem := _contradiction(settings):
        raise ConfigError(f"the configuration contradicts itself: {problem}.")
    check_boundaries(settings.train.bucket_boundaries)
    settings.train.base.places()
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = {k: _merge(old[k], new[k]) for k in old.keys() & new.keys()
            if isinstance(old[k], Mapping) and isinstance(new[k], Mapping)}  # fmt: skip
    return {**old, **new, **both}


RENAMED = {"learning_rate": "lr"}
UNUSED = ("init_lr_ratio", "warmup_epochs", "c_commit", "freeze_emo")
"""Published keys without an effect in version 2.3."""
BERT = {"freeze_ZH_bert": "G.enc_p.bert_proj.*", "freeze_JP_bert": "G.enc_p.ja_bert_proj.*",
        "freeze_EN_bert": "G.enc_p.en_bert_proj.*"}  # fmt: skip


def _translated(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with the published names of `train` replaced by the names here."""
    train = dict(document.get("train", {}))
    for theirs, ours in RENAMED.items():
        if theirs in train and ours in train:
            raise ConfigError(f"the configuration contradicts itself: train has both {theirs} and {ours}.")
        if theirs in train:
            train[ours] = train.pop(theirs)
    requested = [name for name in ("bf16", "fp16") if train.pop(f"{name}_run", False)]
    if requested:
        if len(requested) > 1 or train.get("precision", requested[0]) != requested[0]:
            raise ConfigError(
                f"the configuration contradicts itself: {' and '.join(f'{name}_run' for name in requested)} and "
                f"precision {train.get('precision', 'not given')}; give train.precision alone."
            )
        train["precision"] = requested[0]
    frozen = [pattern for key, pattern in BERT.items() if train.pop(key, False)]
    if frozen:
        train["freeze"] = [*train.get("freeze", []), *frozen]
    unused = [key for key in UNUSED if key in train]
    if unused:
        LOG.info("train.%s: without an effect in 2.3, ignored", ", train.".join(unused))
    train = {key: value for key, value in train.items() if key not in UNUSED}
    return {**document, "train": train} if train or "train" in document else dict(document)


def _contradiction(settings: Settings) -> str:
    """Return the first problem of settings that cannot be trained with, or ""."""
    train, model, data = settings.train, settings.family.model, settings.family.data
    counts = ("log_interval", "eval_interval", "save_interval", "epochs", "batch_size", "keep", "eval_utterances")
    low = [name for name in counts if getattr(train, name) < 1]
    frames, shortest = train.segment_size / data.hop_length, train.bucket_boundaries[0] + 1
    base = train.base
    unknown = sorted(name for name in base.files if not any(name.startswith(f"{n}_") for n in NETWORKS))
    checks = [
        (settings.family.emotion is NONE,
         f"version {settings.family.version} takes an emotion; only 2.0 and 2.3, which take none, are trained here: "
         'write "version": "2.3" (the configuration published with 2.3 says 2.2)'),
        (not low, f"train.{', train.'.join(low)} must be at least 1"),
        (train.workers >= 0, f"train.workers is {train.workers}; 0 loads batches in the training process itself"),
        (train.lr > 0 and 0 < train.lr_decay <= 1, f"train.lr {train.lr}, train.lr_decay {train.lr_decay}: rates are "
         "above 0 and decay is above 0 and at most 1"),
        (len(train.betas) == 2 and all(0 <= b < 1 for b in train.betas), f"train.betas is {list(train.betas)}; AdamW "
         "takes two, from 0 to below 1"),
        (len(train.phone_limits) == 2 and 0 < train.phone_limits[0] <= train.phone_limits[1],
         f"train.phone_limits is {list(train.phone_limits)}; they are the smallest and the largest number of phones"),
        (train.precision in PRECISIONS,
         f"train.precision is {train.precision!r}; the choices are {', '.join(PRECISIONS)}"),
        (train.best_by in METRICS, f"train.best_by is {train.best_by!r}; the choices are {', '.join(METRICS)}"),
        (train.duration_loss in DURATION_LOSSES,
         f"train.duration_loss is {train.duration_loss!r}; the choices are {', '.join(DURATION_LOSSES)}"),
        (train.judged_from >= 0, f"train.judged_from is {train.judged_from}; steps count from 0"),
        (train.judge_shrink in SHRINKS,
         f"train.judge_shrink is {train.judge_shrink}; the choices are {', '.join(map(str, SHRINKS))}"),
        (all((train.clip(name) or 0) >= 0 for name in NETWORKS), "train.clip_* must not be below 0; 0 clips nothing"),
        (frames >= 1 and frames % 1 == 0,
         f"train.segment_size {train.segment_size} is not a multiple of data.hop_length {data.hop_length}"),
        (frames <= shortest, f"train.segment_size {train.segment_size} is {frames:g} frames, but "
         f"train.bucket_boundaries allow utterances of {shortest}: raise the first boundary to {frames - 1:g} or "
         "shorten the slices"),
        (not train.wavlm_discriminator or bool(model.slm),
         "train.wavlm_discriminator is true but the section model.slm, which describes WavLM, is missing; "
         "add it, or set train.wavlm_discriminator=false"),
        (not base.files or bool(base.sources and base.folder),
         "train.base_model.files needs train.base_model.folder and train.base_model.sources"),
        (not unknown, f"train.base_model.files has {', '.join(unknown)}; names begin with "
         f"{', '.join(f'{n}_' for n in NETWORKS)}"),
    ]  # fmt: skip
    return next((message for holds, message in checks if not holds), "")
