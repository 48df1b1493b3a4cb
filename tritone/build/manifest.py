"""What a build folder holds, where each file came from, and whether it still fits the checkpoint and the code.

`tritone.build.targets` says what lies where; `manifest.json` in the same folder keeps the identity of each artifact.

An artifact is current when the checkpoint's files, the stage's declaration and source, and the packages its format is
bound to are what they were when it was built, and the file itself is unchanged. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tritone.build.sources import source_files
from tritone.build.targets import HUGGINGFACE, Artifact, Selection, artifacts, data_file, llm_key, stage_key
from tritone.errors import ArtifactError, CheckpointError
from tritone.stage import Family, LanguageModel, Stage

MANIFEST = "manifest.json"
HASHES = "hashes.json"
CHECKPOINT_FILES = (".pt", ".pth", ".safetensors", ".onnx", ".yaml", ".json", ".txt")
VOICES = "spk2info"
"""Stem of the registry of voices: adding one changes no network."""
CHUNK = 1 << 22
FORMAT = 3
"""Raise it when an exporter's output changes, so that folders built before are rebuilt."""
DEFAULT = Selection()
ROOT = Path(__file__).resolve().parents[2]


def default_folder(model_dir: str | Path) -> Path:
    """Return the build folder of a checkpoint where none is given: `build/<its name>` of this repository."""
    return ROOT / "build" / Path(model_dir).resolve().name


def stage_path(folder: str | Path, name: str, precision: str = "fp32") -> Path:
    """Return the ONNX file of a stage in a build folder."""
    return Path(folder) / stage_key(name, precision)


def llm_path(folder: str | Path, precision: str) -> Path:
    """Return the language model's folder of one precision in a build folder."""
    return Path(folder) / llm_key(precision)


@dataclass(frozen=True)
class Identity:
    """Everything that decides an artifact's content.

    Args:
        checkpoint: hash over the checkpoint's files.
        description: hash over the declaration and the source files behind it.
        precision: arithmetic inside the artifact; the boundary's dtypes never depend on it.
        platform: the kind of GPU an engine was compiled for; empty for what runs anywhere.
        requires: packages whose installed version must equal the one that built the artifact.
    """

    checkpoint: str
    description: str
    precision: str = "fp32"
    requires: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""


@dataclass(frozen=True)
class Entry:
    """One artifact as the manifest records it: its identity, its own content hash, and how it was made.

    Args:
        data: whether part of it lies in a data file beside it.
    """

    identity: Identity
    sha256: str
    bytes: int
    seconds: float
    error: float | None
    tools: Mapping[str, str]
    data: bool = False


class Hashes:
    """SHA-256 of files, remembered by path, size and modification time in one JSON file if there is a `cache`."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known: dict[str, list[Any]] = read_json(cache) if cache else {}

    def file(self, path: Path) -> str:
        """Hex digest of the file's content."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(path.resolve()))
        if known is not None and known[:2] == stamp:
            return str(known[2])
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
        self._known[str(path.resolve())] = [*stamp, digest.hexdigest()]
        return digest.hexdigest()

    def tree(self, root: Path, suffixes: tuple[str, ...] = ("",), without: str = "") -> str:
        """Hex digest over the names and contents of the files below `root`; a file counts by its content alone.

        A data file beside it belongs to a file.

        Args:
            suffixes: endings of the names that count; without: stem of files that do not.
        """
        if root.is_file():
            parts = [self.file(part) for part in files(root)]
            return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()
        paths = sorted(p for p in root.rglob("*") if p.is_file() and p.name.endswith(suffixes) and p.stem != without)
        lines = [f"{path.relative_to(root)} {self.file(path)}\n" for path in paths]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Keep what was learnt for the next process; a folder that cannot be written only costs time."""
        with contextlib.suppress(OSError):
            if self._cache:
                write_json(self._cache, self._known)


def files(path: Path) -> list[Path]:
    """Return the files an artifact consists of: one, one and its data file, or those of a folder."""
    found = [path, data_file(path)] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in found if file.is_file()]


def checkpoint_hash(model_dir: Path, hashes: Hashes) -> str:
    """Hash over the checkpoint's weights, settings and tokenizer, not its documents and registered voices."""
    if not model_dir.is_dir():
        raise CheckpointError(f"{model_dir} is not a directory; give the folder that holds the checkpoint's files")
    return hashes.tree(model_dir, CHECKPOINT_FILES, without=VOICES)


def description_hash(node: Stage | LanguageModel, precision: str = "fp32") -> str:
    """Hash over the declaration and the source of the modules its builder uses."""
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
    """What the artifact should have been made from; `checkpoint` is that of `checkpoint_hash`."""
    llm = family.language_model
    node = llm if llm is not None and artifact.name == llm.name else family.stage(artifact.name)
    described = description_hash(node, artifact.precision)
    return Identity(checkpoint, described, artifact.precision, artifact.requires, artifact.platform)


def identities(family: Family, model_dir: Path, hashes: Hashes, selection: Selection = DEFAULT) -> dict[str, Identity]:
    """What each selected artifact of the family should be, by key."""
    checkpoint = checkpoint_hash(model_dir, hashes)
    return {a.key: identity(a, family, checkpoint) for a in artifacts(family, selection)}


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return the artifacts of a build folder by key; empty when nothing was built."""
    listed = read_json(folder / MANIFEST).get("artifacts", {})
    try:
        return {key: Entry(**{**value, "identity": Identity(**value["identity"])}) for key, value in listed.items()}
    except (TypeError, KeyError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} was written by another version of Tritone ({error}); delete {folder} and build again"
        ) from error


def record(folder: Path, key: str, entry: Entry) -> None:
    """Add or replace one artifact in the manifest; call it inside `locked(folder)`."""
    write_manifest(folder, {**read_manifest(folder), key: entry})


def write_manifest(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Replace the manifest."""
    write_json(folder / MANIFEST, {"artifacts": {name: asdict(entries[name]) for name in sorted(entries)}})


def discard(folder: Path, key: str) -> None:
    """Delete one artifact and what the manifest says of it; call it inside `locked(folder)`."""
    path = folder / key
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    data_file(path).unlink(missing_ok=True)
    entries = {name: entry for name, entry in read_manifest(folder).items() if name != key}
    write_manifest(folder, entries)


def problem(folder: Path, key: str, wanted: Identity, hashes: Hashes) -> str | None:
    """Why the artifact cannot be used, as the end of a sentence that starts with its path; None when it is current."""
    entry = read_manifest(folder).get(key)
    if entry is None or not (folder / key).exists():
        return "does not exist"
    if entry.data and not data_file(folder / key).is_file():
        return f"keeps weights in {data_file(folder / key)}, which does not exist"
    for what, recorded, found in (
        ("checkpoint", entry.identity.checkpoint, wanted.checkpoint),
        ("description of its stage", entry.identity.description, wanted.description),
        ("precision", entry.identity.precision, wanted.precision),
    ):
        if recorded != found:
            return f"was built from another {what} (built with {recorded[:12]}, now {found[:12]})"
    if entry.identity.platform != wanted.platform:
        return f"was built for {entry.identity.platform or 'any machine'}, wanted is {wanted.platform or 'any machine'}"
    for package, version in wanted.requires.items():
        recorded = entry.identity.requires.get(package, "none")
        if recorded != version:
            return f"was built with {package} {recorded}, installed is {version}"
    if hashes.tree(folder / key) != entry.sha256:
        return "was changed after it was built"
    return None


def verify(folder: Path, family: Family, model_dir: Path, selection: Selection = DEFAULT) -> None:
    """Raise ArtifactError naming every artifact that is missing or stale and the command that rebuilds them."""
    hashes = Hashes(folder / HASHES)
    wanted = identities(family, model_dir, hashes, selection)
    found = ((key, problem(folder, key, identity, hashes)) for key, identity in wanted.items())
    bad = [f"{folder / key} {reason}" for key, reason in found if reason]
    if bad:
        raise ArtifactError(f"{'; '.join(bad)}. Run: {rebuild_command(model_dir, folder, selection)}")
    hashes.save()


def rebuild_command(model_dir: Path, folder: Path, selection: Selection = DEFAULT) -> str:
    """What to type so that everything in the build folder is current again."""
    options = ["--model-dir", str(model_dir), "--out", str(folder)]
    if selection.formats != DEFAULT.formats:
        options += ["--formats", ",".join(selection.formats)]
    if selection.precisions != DEFAULT.precisions:
        options += ["--precision", ",".join(selection.precisions)]
    if selection.llm == HUGGINGFACE:
        options += ["--target", "gpu"]
    elif selection.llm != DEFAULT.llm:
        options += ["--lm-precision", selection.llm]
    return shlex.join(["python", "export/build_engines.py", *options])


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the build folder alone; `waiting()` is called if another process holds it. Freed when that dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise ArtifactError(f"cannot write to {folder} ({error}); choose another folder") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file; empty when there is no such file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); delete it and build again") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(part, path)
