"""The emotion input of the text encoders of versions 2.1 and 2.2, and how a checkpoint shows which one it has.

2.1 takes 1024 numbers (the mean hidden state of a wav2vec2 model) or one of ten clusters of them, 2.2 takes 512 (an
embedding of CLAP, of a text or of a sound). Both replace them by the nearest codes of a codebook. 2.1 as first released
did not save its codebook: what such a voice has learned of emotions is lost, and its mean is spoken.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tritone.errors import CheckpointError

if TYPE_CHECKING:
    from tritone.families.bert_vits2.config import BertVits2Config


class Emotion(NamedTuple):
    """One kind of emotion input: how many numbers its embedding has, and how many clusters have a number."""

    name: str
    numbers: int = 0
    clusters: int = 0


NONE, UNSAVED = Emotion("none"), Emotion("unsaved")
CLUSTERS, PROMPTS = Emotion("clusters", 1024, 10), Emotion("prompts", 512)
BY_VERSION = {"2.0": NONE, "2.1": CLUSTERS, "2.2": PROMPTS, "2.3": NONE}
OF_2_1 = (CLUSTERS, UNSAVED)
MARKS = {"clusters": "enc_p.emo_quantizer.", "unsaved": "enc_p.emo_proj.", "prompts": "enc_p.emo_vq."}
"""What the keys of each kind begin with; those of `clusters` have the mark of `unsaved` as well."""
HEAD = 4 << 20
"""Bytes at the start of an older file of torch.save that are searched: its keys come before its numbers."""


def kind_of(keys: Iterable[str]) -> Emotion:
    """Return the emotion input that a state_dict with these keys has."""
    names = list(keys)
    return _kind({name for name, mark in MARKS.items() if any(key.startswith(mark) for key in names)})


def kind_of_file(path: Path) -> Emotion | None:
    """Return the emotion input of the weights in a file, without reading them; None for a file that is unreadable."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
        else:
            with open(path, "rb") as file:
                content = file.read(HEAD)
    except (OSError, zipfile.BadZipFile, EOFError):
        return None
    if b"enc_p." not in content:
        return None
    return _kind({name for name, mark in MARKS.items() if mark.encode() in content})


def _kind(found: set[str]) -> Emotion:
    return next((kind for kind in (PROMPTS, CLUSTERS, UNSAVED) if kind.name in found), NONE)


def told_by_weights(config: BertVits2Config, kind: Emotion, path: Path) -> BertVits2Config:
    """Return the configuration with the version that its weights show.

    A configuration without a version takes it from the weights; CheckpointError if it states another.
    """
    if kind is NONE and config.emotion is NONE:
        return config
    version = "2.1" if kind in OF_2_1 else "2.2" if kind is PROMPTS else ""
    if config.version == version or (version and not config.version_stated):
        return replace(config, version=version, codebook_saved=kind is not UNSAVED)
    if not version:
        raise CheckpointError(
            f"config.json says version {config.version}, whose text encoder takes an emotion, but {path} has no "
            f'emotion input: its weights are of 2.0 or 2.3. Write the version it was trained with as "version" (the '
            f"configuration published with 2.3 says 2.2)."
        )
    raise CheckpointError(
        f"{path} has the emotion input of version {version} ({MARKS[kind.name]}*), but config.json says version "
        f'{config.version}. Write "version": "{version}" there, or use the weights of {config.version}.'
    )
