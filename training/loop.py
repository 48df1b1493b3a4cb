"""The training loop every recipe runs in: progress, TensorBoard, atomic checkpoints, exact resume, data parallelism.

A recipe describes itself as a `Run`; `train` owns what is the same for all. One epoch's batches are a function of
(seed, epoch) alone and `batches(epoch, skip)` starts after the first `skip` of them without loading those, so a run
interrupted at any step and resumed computes what the uninterrupted one computes (bit for bit on a CPU). A run with a
`minutes` budget schedules by the clock and is therefore not reproducible to the bit.
"""

from __future__ import annotations

import contextlib
import json
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

from training import checkpointing, distributed

FINISHED = "finished.json"
"""Written when a run reaches its end, not when it is interrupted: how many steps, epochs and minutes it took."""


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found.

    Args:
        scalars: numbers by name; the run's `metric` must be among them.
        images: log-mel spectrograms (or any [rows, columns] float array), low row at the bottom.
        audio: mono waveforms in [-1, 1] with their sample rates.
    """

    scalars: dict[str, float]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    audio: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training run, ready to go; everything is already on its device.

    Args:
        networks: all modules whose state belongs in the checkpoint (a moving average is one more of them).
        batches: `batches(epoch, skip)` yields that epoch's batches for this process, without the first `skip`.
        step: `step(batch, step) -> scalars to log`; does forward, backward and the optimisers' steps itself, through
            `training.distributed.update`, so adversarial recipes need nothing special.
        evaluate: called on rank 0, networks in eval mode, without gradients; must not depend on what it drew before.
        metric: name in `Evaluation.scalars` to minimise; `best.pt` follows it.
        schedulers: per optimiser name, from the fraction of the run done (0..1) to a factor of its base rate.
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
    extra_state: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def stateful(self) -> dict[str, dict[str, Any]]:
        """Everything a checkpoint restores through `load_state_dict`, by section and name."""
        return {name: dict(getattr(self, name)) for name in ("networks", "optimizers", "extra_state")}


def warmup_cosine(warmup: float = 0.02, floor: float = 0.02) -> Callable[[float], float]:
    """Learning-rate factor: linear up over the first `warmup` of the run, then half a cosine down to `floor`."""

    def factor(fraction: float) -> float:
        if fraction < warmup:
            return max(fraction / warmup, 0.01)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - warmup) / (1 - warmup))))

    return factor


def autocast(device: torch.device, enabled: bool = True) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast on `device` (float32 exponent range, so no loss scaling is needed)."""
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
) -> int:
    """The number of steps done when `steps`, the `minutes` budget, or SIGINT/SIGTERM ended the run.

    Resumes from the newest `step-*.pt` in `out`; leaves there the last `keep` of them, `best.pt`, `metrics.jsonl`,
    TensorBoard files and, at its end, `finished.json`. The state is saved before returning, whatever the reason.
    """
    from torch.utils.tensorboard import SummaryWriter

    total = steps if steps is not None else run.max_steps
    main = distributed.rank() == 0
    out.mkdir(parents=True, exist_ok=True)
    at = _resume(run, out)
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
                scalars = distributed.mean(scalars, run.device)
                bar.set_postfix({name: f"{value:.3g}" for name, value in scalars.items()}, refresh=False)
                for name, value in (scalars | _rates(run)).items():
                    if writer:
                        writer.add_scalar(f"train/{name}", value, at["step"])
            if at["step"] % eval_every == 0:
                _evaluate(run, out, at, writer)
                evaluated = at["step"]
            if at["step"] % save_every == 0:
                _save(run, out, at, keep)
                saved = at["step"]
    if not halt and evaluated != at["step"]:
        _evaluate(run, out, at, writer)
    if saved != at["step"]:
        _save(run, out, at, keep)
    if main and not halt:
        finished = {"steps": at["step"], "epochs": at["epoch"] + 1, "minutes": round(at["seconds"] / 60, 1)}
        (out / FINISHED).write_text(json.dumps(finished | {"best": at["best"], "metric": run.metric}))
    bar.close()
    if writer:
        writer.close()
    return at["step"]


def _rates(run: Run) -> dict[str, float]:
    return {f"rate_{name}": o.param_groups[0]["lr"] for name, o in run.optimizers.items()}


def _resume(run: Run, out: Path) -> dict[str, Any]:
    """Where to start: the newest checkpoint's position after restoring it, or the beginning."""
    found = checkpointing.steps_saved(out)
    if not found:
        distributed.broadcast(run.networks)
        return {"step": 0, "epoch": 0, "position": 0, "seconds": 0.0, "best": math.inf}
    state = checkpointing.load(found[-1][1])
    for section, objects in run.stateful().items():
        for name, thing in objects.items():
            thing.load_state_dict(state[section][name])
    states = state["random"]
    checkpointing.restore_random_states(states[distributed.rank() % len(states)])
    return dict(state["at"])


def _save(run: Run, out: Path, at: dict[str, Any], keep: int) -> None:
    random_states = checkpointing.gather_random_states()
    if distributed.rank() == 0:
        sections = {s: {n: thing.state_dict() for n, thing in objects.items()} for s, objects in run.stateful().items()}
        checkpointing.save(sections | {"random": random_states, "at": dict(at)}, out / f"step-{at['step']:08d}.pt")
        checkpointing.prune(out, keep)


def _evaluate(run: Run, out: Path, at: dict[str, Any], writer: Any) -> None:
    """Evaluates on rank 0 with the generators put back afterwards, so that evaluating never changes the training."""
    distributed.check_equal(run.networks, run.device)
    score = [math.inf]
    if distributed.rank() == 0:
        states = checkpointing.random_states()
        modes = {name: network.training for name, network in run.networks.items()}
        for network in run.networks.values():
            network.eval()
        with torch.no_grad():
            found = run.evaluate()
        for name, network in run.networks.items():
            network.train(modes[name])
        checkpointing.restore_random_states(states)
        _write(writer, found, at["step"])
        plain = {name: float(value) for name, value in found.scalars.items()}  # NumPy scalars would be pickled as code
        row = {"step": at["step"], "epoch": at["epoch"], "minutes": round(at["seconds"] / 60, 2), **plain}
        with open(out / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write(f"{run.name} {row}")
        score = [-plain[run.metric]]
    else:
        score = [-math.inf]
    value = -distributed.largest(score, run.device)[0]
    if value < at["best"]:
        at["best"] = value
        if distributed.rank() == 0:
            networks = {name: network.state_dict() for name, network in run.networks.items()}
            checkpointing.save({"networks": networks, "step": at["step"], run.metric: value}, out / "best.pt")


def _write(writer: Any, found: Evaluation, step: int) -> None:
    from matplotlib import colormaps

    for name, value in found.scalars.items():
        writer.add_scalar(f"validation/{name}", value, step)
    for name, image in found.images.items():
        scaled = (image - image.min()) / max(float(np.ptp(image)), 1e-9)
        writer.add_image(name, colormaps["magma"](scaled[::-1])[..., :3], step, dataformats="HWC")
    for name, (wave, rate) in found.audio.items():
        writer.add_audio(name, torch.from_numpy(np.asarray(wave, np.float32)).clamp(-1, 1)[None], step, rate)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the loop looks at it between steps."""
    event = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in numbers}
    try:
        yield event
    finally:
        for number, old in before.items():
            signal.signal(number, old)
