"""The state of a run between steps: its place in the data, how it is saved, and how it is restored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.core import checkpointing, distributed
from training.core.run import LOG, Run
from tritone.errors import CheckpointError


@dataclass
class Place:
    """The position of a run.

    Args:
        step: steps done. epoch, position: the epoch and the number of its batches done.
        seconds: training time. best: lowest value of the run's metric.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    seconds: float = 0.0
    best: float = math.inf


def resume(run: Run, store: checkpointing.Store) -> Place:
    """Restore the newest checkpoint and return its place, or the beginning."""
    state = store.newest()
    if state is None:
        distributed.broadcast(run.networks)
        return Place()
    settings = {name: [_settings(g) for g in run.optimizers[name].param_groups] for name in run.rates}
    for section, objects in run.stateful().items():
        _restore(section, objects, state[section], state.get("source", "the checkpoint"))
    for name, groups in settings.items():
        for group, own in zip(run.optimizers[name].param_groups, groups, strict=True):
            group.update(own)
    states = state["random"]
    checkpointing.restore_random_states(states[distributed.rank() % len(states)])
    place = Place(**state["at"])
    LOG.info("resumed at step %d, epoch %d, after %d of its batches", place.step, place.epoch, place.position)
    return place


def save(run: Run, place: Place, store: checkpointing.Store) -> None:
    """Write a checkpoint; every process must call this, rank 0 writes."""
    state = contents(run, place)
    if distributed.rank() == 0:
        store.save(state)


def save_best(run: Run, place: Place, store: checkpointing.Store) -> None:
    """Write the best checkpoint; every process must call this, rank 0 writes."""
    state = contents(run, place)
    if distributed.rank() == 0:
        store.save_best(state, run.metric)


def contents(run: Run, place: Place) -> dict[str, Any]:
    """Return the contents of a checkpoint; every process must call this and receives its own."""
    random_states = checkpointing.gather_random_states()
    sections = {s: {n: thing.state_dict() for n, thing in objects.items()} for s, objects in run.stateful().items()}
    return sections | {"random": random_states, "at": asdict(place)}


def _restore(section: str, objects: Mapping[str, Any], saved: Mapping[str, Any], source: str) -> None:
    """Load each object's state; None leaves the object as it is."""
    if objects.keys() != saved.keys():
        raise CheckpointError(
            f"{source} has {section} {', '.join(sorted(saved)) or '-'}, this run {', '.join(sorted(objects)) or '-'}: "
            "continue with the configuration it was saved with, or choose another folder."
        )
    for name, thing in objects.items():
        try:
            if saved[name] is not None:
                thing.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{source}: {section} {name!r} does not fit this run: {error}") from error


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
