"""Training state on disk: one file per save, written atomically, from which a run resumes exactly."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from training.core import distributed
from tritone.checkpoint.weights import read_data, write_atomic
from tritone.errors import CheckpointError


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators, made of plain values and tensors only."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the generators back to what `random_states` returned."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


def gather_random_states() -> list[dict[str, Any]]:
    """Return every process's generators, by rank."""
    if distributed.world_size() == 1:
        return [random_states()]
    gathered: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(gathered, random_states())
    return gathered


def save(state: Any, path: Path) -> None:
    """Write `state` so that `path` is either the old file or the complete new one, even when the process is killed."""
    write_atomic(path, lambda file: torch.save(state, file))


def load(path: Path) -> Any:
    """Return the state that `save` wrote; only tensors and plain values are ever unpickled."""
    try:
        return read_data(path)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as a training checkpoint ({error}). "
            f"Delete it to resume from an older one in {path.parent}, or the directory to start again."
        ) from error


class Store(Protocol):
    """The loop's state on disk: the sections of `Run.stateful`, every process's "random" and the position "at".

    Only rank 0 writes; every process reads.
    """

    def newest(self) -> dict[str, Any] | None:
        """Return the newest state and the "source" it was read from; None before the first save."""

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` atomically and delete the oldest saves."""

    def save_best(self, state: dict[str, Any], metric: str) -> None:
        """Write `state` as the best so far; `metric` names what `state["at"]["best"]` measures."""


class StepFiles:
    """One `step-*.pt` per save in `out`, the newest `keep` of which are kept, and the networks of the best in
    `best.pt`.
    """

    def __init__(self, out: Path, keep: int) -> None:
        self.out, self.keep = out, keep

    def newest(self) -> dict[str, Any] | None:
        saves = steps_saved(self.out)
        return load(saves[-1][1]) | {"source": str(saves[-1][1])} if saves else None

    def save(self, state: dict[str, Any]) -> None:
        save(state, self.out / f"step-{state['at']['step']:08d}.pt")
        prune(self.out, self.keep)

    def save_best(self, state: dict[str, Any], metric: str) -> None:
        at = state["at"]
        save({"networks": state["networks"], "step": at["step"], metric: at["best"]}, self.out / "best.pt")


def steps_saved(out: Path) -> list[tuple[int, Path]]:
    """Return (step, file) of the checkpoints in `out`, oldest first."""
    saves = [
        (int(match[1]), path) for path in out.glob("step-*.pt") if (match := re.fullmatch(r"step-(\d+)\.pt", path.name))
    ]
    return sorted(saves)


def prune(out: Path, keep: int) -> None:
    """Delete all but the newest `keep` step files."""
    for _, path in steps_saved(out)[:-keep]:
        path.unlink()


def best_network(out: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the state dict of network `name` from `out`'s best checkpoint."""
    return _network(out / "best.pt", name)


def last_network(out: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the state dict of network `name` from `out`'s newest checkpoint."""
    saves = steps_saved(out)
    return _network(saves[-1][1] if saves else out / "step-*.pt", name)


def _network(path: Path, name: str) -> dict[str, torch.Tensor]:
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist: no evaluation has finished in this run. Train first (python -m training --help)."
        )
    networks = load(path)["networks"]
    if name not in networks:
        raise CheckpointError(f"{path} has no network {name!r}; it has {', '.join(sorted(networks))}.")
    return networks[name]
