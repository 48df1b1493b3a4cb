"""The training loop every recipe runs in: progress, TensorBoard, atomic checkpoints, exact resume, data parallelism.

A recipe describes itself as a `Run`; `train` does what all recipes share. One epoch's batches are a function of
(seed, epoch) alone and `batches(epoch, skip)` starts after the first `skip` of them without loading those, so a run
interrupted at any step and resumed computes what the uninterrupted one computes (bit for bit on a CPU). A run with a
`minutes` budget schedules by the clock and is therefore not reproducible to the bit.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from training.core import checkpointing, distributed
from tritone.errors import CheckpointError

LOG = logging.getLogger("training")
"""Silent until a recipe opens it (`training.core.logs`); the scalars of a step are those of this process."""
FINISHED = "finished.json"
"""Written when a run reaches its end, not when it is interrupted: how many steps, epochs and minutes it took."""


@dataclass(frozen=True)
class Evaluation:
    """The results of one evaluation.

    Args:
        scalars: numbers by name; the run's `metric` must be among them.
        images: log-mel spectrograms (or any [rows, columns] float array), low row at the bottom.
        audio: mono waveforms in [-1, 1] with their sample rates.
        alignments: any [rows, columns] float array, first row on top.
    """

    scalars: dict[str, float]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    audio: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    alignments: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training run, ready to start; everything is already on its device.

    Args:
        networks: all modules whose state belongs in the checkpoint (a moving average counts as one).
        batches: `batches(epoch, skip)` yields that epoch's batches for this process, without the first `skip`.
        step: `step(batch, step) -> scalars to log`; does forward, backward and the optimisers' steps itself, through
            `training.core.distributed.update`, so adversarial recipes need no support from the loop.
        evaluate: called on rank 0, networks in eval mode, without gradients; must not depend on earlier random draws.
        metric: name in `Evaluation.scalars` to minimise; `best.pt` follows it.
        schedulers: per optimiser name, from the fraction of the run done (0..1) to a factor of its base rate.
        rates: per optimiser name, from the number of the epoch to its learning rate. Such an optimiser keeps the
            settings it was created with after a resume, so that a changed configuration takes effect.
        extra_state: further objects with `state_dict` / `load_state_dict`.
    """

    name: str
    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    batches: Callable[[int, int], Iterable[Any]]
    step: Callable[[Any, int], dict[str, float]]
    evaluate: Callable[[], Evaluation]
    metric: str
    max_steps: int
    schedulers: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    rates: Mapping[str, Callable[[int], float]] = field(default_factory=dict)
    extra_state: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def stateful(self) -> dict[str, dict[str, Any]]:
        """Return everything a checkpoint restores through `load_state_dict`, by section and name."""
        return {name: dict(getattr(self, name)) for name in ("networks", "optimizers", "extra_state")}


def warmup_cosine(warmup: float = 0.02, floor: float = 0.02) -> Callable[[float], float]:
    """Return the learning-rate factor: linear up over the first `warmup` of the run, then half a cosine down to
    `floor`.
    """

    def factor(fraction: float) -> float:
        if fraction < warmup:
            return max(fraction / warmup, 0.01)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - warmup) / (1 - warmup))))

    return factor


def autocast(device: torch.device, enabled: bool = True) -> contextlib.AbstractContextManager[Any]:
    """Return a bfloat16 autocast on `device`; its exponent range is float32's, so no loss scaling is needed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def train(
    run: Run,
    out: Path,
    steps: int | None = None,
    minutes: float | None = None,
    eval_every: int = 500,
    save_every: int = 500,
    keep: int = 2,
    log_every: int = 20,
    store: checkpointing.Store | None = None,
) -> int:
    """Return the number of steps done when `steps`, the `minutes` budget, or SIGINT/SIGTERM ended the run.

    Resumes from the newest `step-*.pt` in `out`; leaves the last `keep` of them there, `best.pt`, `metrics.jsonl`,
    TensorBoard files and, at its end, `finished.json`. The state is always saved before returning. A
    `store` of another layout replaces the `.pt` files.
    """
    from torch.utils.tensorboard import SummaryWriter

    store = store or checkpointing.StepFiles(out, keep)
    total = steps if steps is not None else run.max_steps
    main = distributed.rank() == 0
    out.mkdir(parents=True, exist_ok=True)
    at = _resume(run, store)
    base_rates = {
        name: [g.setdefault("base_lr", g["lr"]) for g in o.param_groups] for name, o in run.optimizers.items()
    }
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=at["step"]) if main else None
    started = time.monotonic() - at["seconds"]
    bar = tqdm(total=total, initial=at["step"], desc=run.name, unit="step", disable=not main,
               mininterval=0.5 if sys.stderr.isatty() else 20)  # fmt: skip
    saved = evaluated = at["step"] if at["step"] else -1
    with _stop_signals() as stop:
        batches = iter(run.batches(at["epoch"], at["position"]))
        while True:
            halt, seconds = distributed.largest([float(stop.is_set()), time.monotonic() - started], run.device)
            fraction = max(at["step"] / max(total, 1), seconds / (60 * minutes) if minutes else 0.0)
            if halt or fraction >= 1:
                break
            for name, factor in run.schedulers.items():
                for group, rate in zip(run.optimizers[name].param_groups, base_rates[name], strict=True):
                    group["lr"] = rate * factor(fraction)
            for name, rate_of in run.rates.items():
                for group in run.optimizers[name].param_groups:
                    group["lr"] = rate_of(at["epoch"])
            try:
                batch = next(batches)
            except StopIteration:
                if at["position"] == 0:
                    raise RuntimeError(
                        f"{run.name}: epoch {at['epoch']} has no batches; is the corpus empty?"
                    ) from None
                at["epoch"], at["position"] = at["epoch"] + 1, 0
                batches = iter(run.batches(at["epoch"], 0))
                continue
            scalars = run.step(batch, at["step"])
            at["step"], at["position"], at["seconds"] = at["step"] + 1, at["position"] + 1, seconds
            bar.update()
            if at["step"] % log_every == 0:
                LOG.info("step %d epoch %d %s", at["step"], at["epoch"], _line(scalars))
                scalars = distributed.mean(scalars, run.device)
                bar.set_postfix({name: f"{value:.3g}" for name, value in scalars.items()}, refresh=False)
                for name, value in (scalars | _rates(run)).items():
                    if writer:
                        writer.add_scalar(f"train/{name}", value, at["step"])
            if at["step"] % eval_every == 0:
                _evaluate(run, out, at, writer, store)
                evaluated = at["step"]
            if at["step"] % save_every == 0:
                _save(run, at, store)
                saved = at["step"]
    if not halt and evaluated != at["step"]:
        _evaluate(run, out, at, writer, store)
    if saved != at["step"]:
        _save(run, at, store)
    if main and not halt:
        finished = {"steps": at["step"], "epochs": at["epoch"] + 1, "minutes": round(at["seconds"] / 60, 1)}
        (out / FINISHED).write_text(json.dumps(finished | {"best": at["best"], "metric": run.metric}))
    bar.close()
    if writer:
        writer.close()
    return at["step"]


def _rates(run: Run) -> dict[str, float]:
    return {f"rate_{name}": o.param_groups[0]["lr"] for name, o in run.optimizers.items()}


def _line(scalars: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.5g}" for name, value in scalars.items())


def _resume(run: Run, store: checkpointing.Store) -> dict[str, Any]:
    """Restore the newest checkpoint and return its position, or the beginning."""
    state = store.newest()
    if state is None:
        distributed.broadcast(run.networks)
        return {"step": 0, "epoch": 0, "position": 0, "seconds": 0.0, "best": math.inf}
    settings = {name: [_settings(g) for g in run.optimizers[name].param_groups] for name in run.rates}
    for section, objects in run.stateful().items():
        _restore(section, objects, state[section], state.get("source", "the checkpoint"))
    for name, groups in settings.items():
        for group, own in zip(run.optimizers[name].param_groups, groups, strict=True):
            group.update(own)
    states = state["random"]
    checkpointing.restore_random_states(states[distributed.rank() % len(states)])
    LOG.info("resumed at step %d, epoch %d, after %d of its batches", *(state["at"][k] for k in _PLACE))
    return dict(state["at"])


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


_PLACE = ("step", "epoch", "position")


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _state(run: Run, at: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a checkpoint; every process must call this, rank 0 receives it."""
    random_states = checkpointing.gather_random_states()
    sections = {s: {n: thing.state_dict() for n, thing in objects.items()} for s, objects in run.stateful().items()}
    return sections | {"random": random_states, "at": dict(at)}


def _save(run: Run, at: dict[str, Any], store: checkpointing.Store) -> None:
    state = _state(run, at)
    if distributed.rank() == 0:
        store.save(state)


def _evaluate(run: Run, out: Path, at: dict[str, Any], writer: Any, store: checkpointing.Store) -> None:
    """Evaluate on rank 0 and restore the random generators, so that evaluating never changes the training."""
    distributed.check_equal(run.networks, run.device)
    score = [math.inf]
    if distributed.rank() == 0:
        states = checkpointing.random_states()
        modes = {name: network.training for name, network in run.networks.items()}
        for network in run.networks.values():
            network.eval()
        with torch.no_grad():
            evaluation = run.evaluate()
        for name, network in run.networks.items():
            network.train(modes[name])
        checkpointing.restore_random_states(states)
        _write(writer, evaluation, at["step"])
        # NumPy scalars would be pickled as code.
        plain = {name: float(value) for name, value in evaluation.scalars.items()}
        row = {"step": at["step"], "epoch": at["epoch"], "minutes": round(at["seconds"] / 60, 2), **plain}
        with open(out / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write(f"{run.name} {row}")
        LOG.info("evaluation at step %d: %s", at["step"], _line(plain))
        score = [-plain[run.metric]]
    else:
        score = [-math.inf]
    value = -distributed.largest(score, run.device)[0]
    if value < at["best"]:
        at["best"] = value
        state = _state(run, at)
        if distributed.rank() == 0:
            store.save_best(state, run.metric)


def _write(writer: Any, evaluation: Evaluation, step: int) -> None:
    from matplotlib import colormaps

    for name, value in evaluation.scalars.items():
        writer.add_scalar(f"validation/{name}", value, step)
    for name, image in (evaluation.images | evaluation.alignments).items():
        scaled = (image - image.min()) / max(float(np.ptp(image)), 1e-9)
        scaled = scaled[::-1] if name in evaluation.images else scaled
        writer.add_image(name, colormaps["magma"](scaled)[..., :3], step, dataformats="HWC")
    for name, (wave, rate) in evaluation.audio.items():
        writer.add_audio(name, torch.from_numpy(np.asarray(wave, np.float32)).clamp(-1, 1)[None], step, rate)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; the loop looks at it between steps."""
    event = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in numbers}
    try:
        yield event
    finally:
        for number, old in before.items():
            signal.signal(number, old)
