"""The manifest of a build folder: what each artifact was made from, and whether it still fits checkpoint and code.

An artifact is current when its recorded identity is the present one (`tritone.build.identity`) and the file itself is
unchanged. Standard library only.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tritone.build.files import read_json, write_json
from tritone.build.hashes import Hashes
from tritone.build.identity import Identity, identities
from tritone.build.layout import data_file
from tritone.build.targets import HUGGINGFACE, Selection
from tritone.errors import ArtifactError
from tritone.stage import Family

MANIFEST = "manifest.json"
HASHES = "hashes.json"
DEFAULT = Selection()


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


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return the artifacts recorded in a build folder by key; empty when nothing was built."""
    listed = read_json(folder / MANIFEST).get("artifacts", {})
    try:
        return {key: Entry(**{**value, "identity": Identity(**value["identity"])}) for key, value in listed.items()}
    except (TypeError, KeyError, AttributeError) as error:
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
    """Delete one artifact and its entry in the manifest; call it inside `locked(folder)`."""
    path = folder / key
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    data_file(path).unlink(missing_ok=True)
    write_manifest(folder, {name: entry for name, entry in read_manifest(folder).items() if name != key})


def problem(folder: Path, key: str, current: Identity, hashes: Hashes) -> str | None:
    """Return the reason the artifact cannot be used, to be read after its path; None when it is current."""
    if not (folder / key).exists():
        return "does not exist"
    entry = read_manifest(folder).get(key)
    if entry is None:
        return f"is not recorded in {folder / MANIFEST}"
    if entry.data and not data_file(folder / key).is_file():
        return f"keeps weights in {data_file(folder / key)}, which does not exist"
    return stale(entry.identity, current) or (
        "was changed after it was built" if hashes.tree(folder / key) != entry.sha256 else None
    )


def stale(recorded: Identity, current: Identity) -> str:
    """Return the first difference between two identities, to be read after the artifact's path; empty if none."""
    for what, old, new in (
        ("checkpoint", recorded.checkpoint, current.checkpoint),
        ("description of its stage", recorded.description, current.description),
        ("precision", recorded.precision, current.precision),
    ):
        if old != new:
            return f"was built from another {what} (built with {old[:12]}, now {new[:12]})"
    if recorded.platform != current.platform:
        old, new = recorded.platform or "any machine", current.platform or "any machine"
        return f"was built for {old}; {new} is needed"
    for package, version in current.requires.items():
        built_with = recorded.requires.get(package, "none")
        if built_with != version:
            return f"was built with {package} {built_with}, installed is {version}"
    return ""


def verify(folder: Path, family: Family, model_dir: Path, selection: Selection = DEFAULT, afresh: bool = False) -> None:
    """Raise ArtifactError, naming every missing or stale artifact and the command that rebuilds them, if any is.

    Args:
        afresh: read every byte, also of files whose size and time are as they were.
    """
    hashes = Hashes(folder / HASHES, afresh)
    current = identities(family, model_dir, hashes, selection)
    reasons = ((key, problem(folder, key, identity, hashes)) for key, identity in current.items())
    bad = [f"{folder / key} {reason}" for key, reason in reasons if reason]
    if bad:
        raise ArtifactError(f"{'; '.join(bad)}. Run: {rebuild_command(model_dir, folder, selection)}")
    hashes.save()


def rebuild_command(model_dir: Path, folder: Path, selection: Selection = DEFAULT) -> str:
    """Return the command line that makes everything selected in the build folder current."""
    options = [str(model_dir), "--out", str(folder)]
    if selection.formats != DEFAULT.formats:
        options += ["--formats", ",".join(selection.formats)]
    if selection.precisions != DEFAULT.precisions:
        options += ["--precision", ",".join(selection.precisions)]
    if selection.llm == HUGGINGFACE:
        options += ["--target", "gpu"]
    elif selection.llm != DEFAULT.llm:
        options += ["--lm-precision", selection.llm]
    return shlex.join(["tritone", "build", *options])
