"""Training state as one folder per step, written completely or not at all, with files under their published names.

    step-00001000/
      G_1000.pth D_1000.pth WD_1000.pth DUR_1000.pth   {model, iteration, optimizer, learning_rate} each
      config.json                                      the configuration they were trained with
      state.pt                                         step, epoch, position in the epoch, random state, scaler, best
      set.json                                         size and SHA-256 of each of the above

`best.json` names the folder of the best evaluation. `iteration` counts epochs from one, as the published files do.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from training.core import distributed
from training.core.checkpointing import load
from training.core.run import LOG
from tritone.checkpoint.weights import write_text
from tritone.errors import CheckpointError, EnvironmentProblem
from tritone.nn.weight_norm import older_layout

STATE, CONTENTS, CONFIG, BEST = "state.pt", "set.json", "config.json", "best.json"


class CheckpointSets:
    """A `training.core.checkpointing.Store` of complete sets in `out`: the newest `keep` and the best one.

    Args:
        config: text written as each set's `config.json`.
        order: plain values that determine the order of an epoch's batches. A set saved with other values restarts its
            epoch, because its position then refers to other batches.
        skip_optimizer: restore weights and position, but not the optimisers.
    """

    def __init__(
        self,
        out: Path,
        keep: int,
        config: str = "{}",
        order: Mapping[str, Any] | None = None,
        skip_optimizer: bool = False,
    ) -> None:
        self.out, self.keep, self.config, self.skip_optimizer = out, keep, config, skip_optimizer
        self.order = dict(order or {})
        self._written = -1

    def newest(self) -> dict[str, Any] | None:
        """Return the state of the newest complete set, or None without any set.

        Raises CheckpointError when that set has been altered or cannot be read, and when there are sets but none is
        complete.
        """
        candidates = sets(self.out)
        for step, folder in reversed(candidates):
            if problem := incomplete(folder):
                LOG.warning("%s is ignored: %s. Trying an older one.", folder, problem)
                continue
            return self._adapt(read(folder, step), folder)
        if candidates:
            raise CheckpointError(
                f"none of the {len(candidates)} checkpoint sets in {self.out} is complete "
                f"({candidates[-1][1].name}: {incomplete(candidates[-1][1])}). "
                "Restore one of them, or delete them all to start again."
            )
        return None

    def _adapt(self, state: dict[str, Any], folder: Path) -> dict[str, Any]:
        order = state.pop("order")
        changed = [f"{k} {order.get(k)} -> {self.order.get(k)}" for k in sorted(order | self.order)
                   if order.get(k) != self.order.get(k)]  # fmt: skip
        if changed and state["at"]["position"]:
            LOG.warning("%s: epoch %d starts again, because the order of its batches has changed (%s)",
                        folder, state["at"]["epoch"],                        "; ".join(changed))  # fmt: skip
            state["at"]["position"] = 0
        if self.skip_optimizer:
            LOG.warning(
                "skip_optimizer: at step %d the weights are restored and the optimisers start afresh",
                state["at"]["step"],
            )
            state["optimizers"] = dict.fromkeys(state["optimizers"])
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the set of `state`'s step, and delete all sets except the newest `keep` and the best."""
        self._write(state)
        best = best_set(self.out)
        for _, folder in sets(self.out)[: -self.keep]:
            if folder != best:
                _remove(folder)

    def save_best(self, state: dict[str, Any], metric: str) -> None:
        """Write the set of `state`'s step, and make `best.json` name it."""
        self._write(state)
        at = state["at"]
        content = {"set": f"step-{at['step']:08d}", "step": at["step"], "metric": metric, "value": at["best"]}
        _or_say_what_is_left(self.out, lambda: write_text(self.out / BEST, json.dumps(content, indent=2) + "\n"))

    def _write(self, state: dict[str, Any]) -> None:
        step, epoch = state["at"]["step"], state["at"]["epoch"]
        if step == self._written:
            return
        files: dict[str, Any] = {}
        for name, model in state["networks"].items():
            optimizer = state["optimizers"][name]
            rate = optimizer["param_groups"][0]["lr"]
            files[f"{name}_{step}.pth"] = {
                "model": older_layout(model), "iteration": epoch + 1, "optimizer": optimizer, "learning_rate": rate
            }  # fmt: skip
        files[STATE] = {k: state[k] for k in ("extra_state", "random", "at")} | {
            "order": self.order, "networks": sorted(state["networks"])
        }  # fmt: skip
        final = self.out / f"step-{step:08d}"
        part = final.with_name(f".{final.name}.part")
        for leftover in self.out.glob(".step-*"):  # from a process that was killed while writing or deleting
            shutil.rmtree(leftover)
        _or_say_what_is_left(self.out, lambda: _write_folder(part, files, self.config))
        if final.exists():  # incomplete, or this run was resumed from an older one
            _remove(final)
        os.replace(part, final)
        _sync(self.out)
        self._written = step


def sets(out: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of the sets in `out`, oldest first, complete or not."""
    named = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in out.glob("step-*") if path.is_dir())
    return sorted((int(match[1]), path) for match, path in named if match)


def best_set(out: Path) -> Path | None:
    """Return the folder named by `best.json`, None before the first evaluation."""
    path = out / BEST
    return out / str(json.loads(path.read_text())["set"]) if path.exists() else None


def incomplete(folder: Path) -> str:
    """Return a message about the first missing or short file of a set, "" if it is complete."""
    try:
        contents = json.loads((folder / CONTENTS).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no readable {CONTENTS}"
    for name, about in contents.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != about["bytes"]:
            return f"{name} has {path.stat().st_size} of {about['bytes']} bytes"
    return ""


def read(folder: Path, step: int) -> dict[str, Any]:
    """Return the state in a complete set, every file checked against its SHA-256.

    Raises CheckpointError for a file that was altered, cannot be read or belongs to another epoch.
    """
    contents = json.loads((folder / CONTENTS).read_text())["files"]
    if distributed.rank() == 0:  # one check is enough: an error here ends every process
        for name, about in contents.items():
            with open(folder / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != about["sha256"]:
                    raise CheckpointError(
                        f"{folder / name} is damaged: its SHA-256 is not the one in {CONTENTS}. "
                        f"Delete {folder} to resume from an older set."
                    )
    state = load(folder / STATE)
    state |= {"networks": {}, "optimizers": {}, "source": str(folder)} | {"names": state["networks"]}
    for name in state.pop("names"):
        path = folder / f"{name}_{step}.pth"
        content = load(path)
        absent = sorted({"model", "iteration", "optimizer"} - set(content))
        if absent:
            raise CheckpointError(f"{path} lacks {', '.join(absent)}; it has {', '.join(sorted(content))}.")
        epoch = state["at"]["epoch"] + 1
        if content["iteration"] != epoch:
            raise CheckpointError(
                f"{path} is of epoch {content['iteration']}, but {STATE} beside it is of epoch {epoch}."
            )
        state["networks"][name], state["optimizers"][name] = content["model"], content["optimizer"]
    return state


class _Hashed:
    """A file that hashes what is written and keeps the error of a failed write: torch.save reports a later one."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256, self.bytes = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.sha256.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _write_folder(part: Path, files: Mapping[str, Any], config: str) -> None:
    part.mkdir(parents=True)
    contents = {}
    for name, content in {**files, CONFIG: config}.items():
        with open(part / name, "wb") as file:
            hashed = _Hashed(file)
            try:
                if isinstance(content, str):
                    hashed.write(content.encode())
                else:
                    torch.save(content, cast(IO[bytes], hashed))
            except Exception as error:
                raise hashed.error or error from error
            file.flush()
            os.fsync(file.fileno())
        contents[name] = {"bytes": hashed.bytes, "sha256": hashed.sha256.hexdigest()}
    write_text(part / CONTENTS, json.dumps({"files": contents}, indent=2) + "\n")


def _or_say_what_is_left(out: Path, write: Any) -> None:
    """Run `write`; if it fails, remove the partial set and raise an error that lists the complete sets."""
    try:
        write()
    except OSError as error:
        for leftover in out.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        left = [folder.name for _, folder in sets(out) if not incomplete(folder)]
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise EnvironmentProblem(
            f"a checkpoint could not be written to {out}: {why} ({shutil.disk_usage(out).free / 1e6:.0f} MB free). "
            f"Complete sets in that folder: {', '.join(left) or 'none'}. Make room and run the same command again"
            + (f": training resumes from {left[-1]}." if left else ".")
        ) from error


def _remove(folder: Path) -> None:
    """Delete a set; it is renamed first, so that a set with missing files is never seen."""
    hidden = folder.with_name(f".{folder.name}.old")
    os.replace(folder, hidden)
    shutil.rmtree(hidden)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
