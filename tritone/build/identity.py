"""The identity of an artifact: the checkpoint, description, precision, platform and packages it was made with.

An artifact is current when its identity is what it would be if it were built now. Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritone.build.artifacts import Artifact, artifacts
from tritone.build.hashes import Hashes
from tritone.build.sources import source_files
from tritone.build.targets import Selection
from tritone.errors import CheckpointError
from tritone.lm.description import CausalLm
from tritone.stage import Family, Stage

FORMAT = 3
"""Raise it when an exporter's output changes, so that earlier build folders are rebuilt."""


@dataclass(frozen=True)
class Identity:
    """Everything that decides an artifact's content.

    Args:
        checkpoint: hash over the checkpoint's files.
        description: hash over the declaration and the source files behind it.
        precision: arithmetic inside the artifact; the boundary's dtypes never depend on it.
        platform: the kind of GPU a plan was compiled for; empty for artifacts that run anywhere.
        requires: packages whose installed version must equal the one that built the artifact.
    """

    checkpoint: str
    description: str
    precision: str = "fp32"
    requires: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""


def checkpoint_hash(family: Family, model_dir: Path, hashes: Hashes) -> str:
    """Return the hash over the names and contents of the files that the family reads, as it says itself.

    Weights, settings, tokenizers and encoders count; documents do not, nor do voices: a new voice changes no network.
    """
    if not model_dir.is_dir():
        raise CheckpointError(f"{model_dir} is not a directory; give the folder that holds the checkpoint's files")
    return hashes.tree(model_dir) if family.files is None else hashes.files(model_dir, family.files().answers)


def voices_hash(family: Family, model_dir: Path, hashes: Hashes) -> str:
    """Return the hash over the files of the registered voices; empty for a family or checkpoint without such files."""
    names = family.files().voices if family.files is not None else ()
    return hashes.files(model_dir, names) if names else ""


def description_hash(node: Stage | CausalLm, precision: str = "fp32") -> str:
    """Return the hash over the declaration and the source of the modules its builder uses."""
    declared: tuple[object, ...]
    if isinstance(node, Stage):
        declared = (FORMAT, node.name, node.inputs, node.outputs, node.file)
        declared += (node.keep_fp32,) if precision == "fp16" else ()
    else:
        declared = (FORMAT, node.name, node.vocabulary, node.channels, sorted(node.limits.items()))
    digest = hashlib.sha256(repr(declared).encode())
    for path in source_files(node.build) if node.build is not None else []:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def identity(artifact: Artifact, family: Family, checkpoint: str) -> Identity:
    """Return the identity the artifact has if it is built now; `checkpoint` is the result of `checkpoint_hash`."""
    llm = family.causal_lm
    node = llm if llm is not None and artifact.name == llm.name else family.stage(artifact.name)
    described = description_hash(node, artifact.precision)
    return Identity(checkpoint, described, artifact.precision, artifact.requires, artifact.platform)


def identities(
    family: Family, model_dir: Path, hashes: Hashes, selection: Selection | None = None
) -> dict[str, Identity]:
    """Return the current identity of each artifact, by key, of the selection (default: the cpu target's)."""
    checkpoint = checkpoint_hash(family, model_dir, hashes)
    return {a.key: identity(a, family, checkpoint) for a in artifacts(family, selection or Selection())}
