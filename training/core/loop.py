"""The training loop every recipe runs in: progress, TensorBoard, atomic checkpoints, exact resume, data parallelism.

A recipe describes itself as a `Run`; `train` does what all recipes share. One epoch's batches are a function of
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from training.core import checkpointing, distributed
from training.core.run import FINISHED, LOG, Evaluation, Run
from training.core.state import Place, resume, save, save_best

SHOWN = 40
"""Utterances of a batch that an error names."""


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
    out.mkdir(parents=True, exist_ok=True)
    loop = Loop(run, out, store or checkpointing.StepFiles(out, keep), log_every)
    place = loop.place
    total, started = run.max_steps if steps is None else steps, time.monotonic() - place.seconds
    saved = evaluated = place.step or -1
    halt = 0.0
    with _stop_signals() as stop, loop.progress(total):
        batches = run_batches(run, place)
        while True:
            halt, seconds = distributed.largest([float(stop.is_set()), time.monotonic() - started], run.device)
            fraction = max(place.step / max(total, 1), seconds / (60 * minutes) if minutes else 0.0)
            if halt or fraction >= 1:
                break
            batch = next(batches)  # may begin the next epoch, by which some rates are set
            loop.set_rates(fraction)
            loop.step(batch, seconds)
            if place.step % eval_every == 0:
                loop.evaluate()
                evaluated = place.step
            if place.step % save_every == 0:
                save(run, place, loop.store)
                saved = place.step
        if not halt and evaluated != place.step:
            loop.evaluate()
        if saved != place.step:
            save(run, place, loop.store)
        if not halt:
            loop.record_end()
    return place.step


def run_batches(run: Run, place: Place) -> Iterator[Any]:
    """Yield the batches from `place` on, epoch after epoch, and move `place` to each new epoch."""
    while True:
        yield from run.batches(place.epoch, place.position)
        if place.position == 0:
            raise RuntimeError(f"{run.name}: epoch {place.epoch} has no batches; is the corpus empty?")
        place.epoch, place.position = place.epoch + 1, 0


class Loop:
    """A run while it is trained: its place, its learning rates, its logs and its evaluations."""

    def __init__(self, run: Run, out: Path, store: checkpointing.Store, log_every: int) -> None:
        self.run, self.out, self.store, self.log_every = run, out, store, log_every
        self.main = distributed.rank() == 0
        self.place = resume(run, store)
        self._base_rates = {
            name: [g.setdefault("base_lr", g["lr"]) for g in o.param_groups] for name, o in run.optimizers.items()
        }
        self._writer: Any = None
        self._bar: Any = None

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Show a progress bar and write TensorBoard files on rank 0 until the block ends."""
        from torch.utils.tensorboard import SummaryWriter

        if self.main:
            self._writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.place.step)
        every = 0.5 if sys.stderr.isatty() else 20
        self._bar = tqdm(
            total=total, initial=self.place.step, desc=self.run.name, unit="step", disable=not self.main,
            mininterval=every,
        )  # fmt: skip
        yield
        self._bar.close()
        if self._writer:
            self._writer.close()

    def set_rates(self, fraction: float) -> None:
        """Set the learning rates for the fraction of the run that is done, and for the epoch."""
        for name, factor in self.run.schedulers.items():
            groups = self.run.optimizers[name].param_groups
            for group, rate in zip(groups, self._base_rates[name], strict=True):
                group["lr"] = rate * factor(fraction)
        for name, rate_of in self.run.rates.items():
            for group in self.run.optimizers[name].param_groups:
                group["lr"] = rate_of(self.place.epoch)

    def step(self, batch: Any, seconds: float) -> None:
        """Train on one batch and log its scalars every `log_every` steps."""
        place = self.place
        try:
            scalars = self.run.step(batch, place.step)
        except distributed.NotFinite as error:
            raise self._stopped(str(error)) from error
        # A norm alone may overflow in float16, where the step is then left out.
        wrong = {n: v for n, v in scalars.items() if not math.isfinite(v) and not n.endswith(("norm", "gradient"))}
        if wrong:
            raise self._stopped(f"not finite: {_line(wrong)}")
        place.step, place.position, place.seconds = place.step + 1, place.position + 1, seconds
        self._bar.update()
        if place.step % self.log_every:
            return
        LOG.info("step %d epoch %d %s", place.step, place.epoch, _line(scalars))
        scalars = distributed.mean(scalars, self.run.device)
        self._bar.set_postfix({name: f"{value:.3g}" for name, value in scalars.items()}, refresh=False)
        if self._writer:
            rates = {f"rate_{name}": o.param_groups[0]["lr"] for name, o in self.run.optimizers.items()}
            for name, value in (scalars | rates).items():
                self._writer.add_scalar(f"train/{name}", value, place.step)

    def _stopped(self, problem: str) -> distributed.NotFinite:
        """Return the error that ends the run, with the batch at fault."""
        place = self.place
        names = list(self.run.utterances(place.epoch, place.position))
        rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        others = " of this process; it may be another's" if distributed.world_size() > 1 else ""
        return distributed.NotFinite(
            f"{self.run.name} ended at step {place.step + 1}, epoch {place.epoch}: {problem}. Its batch{others}: "
            f"{', '.join(names[:SHOWN]) or 'unknown'}{rest}. Look at these recordings, or lower the learning rate; the "
            f"checkpoints in {self.out} are from before this step"
        )

    def evaluate(self) -> None:
        """Evaluate on rank 0 and restore the random generators, so that evaluating never changes the training."""
        run, place = self.run, self.place
        distributed.check_equal(run.networks, run.device)
        score = -math.inf
        if self.main:
            states = checkpointing.random_states()
            modes = {name: network.training for name, network in run.networks.items()}
            for network in run.networks.values():
                network.eval()
            with torch.no_grad():
                evaluation = run.evaluate()
            for name, network in run.networks.items():
                network.train(modes[name])
            checkpointing.restore_random_states(states)
            score = -self._record(evaluation)[run.metric]
        value = -distributed.largest([score], run.device)[0]
        if value < place.best:
            place.best = value
            save_best(run, place, self.store)

    def _record(self, evaluation: Evaluation) -> dict[str, float]:
        """Write the evaluation to TensorBoard, `metrics.jsonl`, the console and the log; return its scalars."""
        place = self.place
        _write(self._writer, evaluation, place.step)
        # NumPy scalars would be pickled as code.
        plain = {name: float(value) for name, value in evaluation.scalars.items()}
        row = {"step": place.step, "epoch": place.epoch, "minutes": round(place.seconds / 60, 2), **plain}
        with open(self.out / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write(f"{self.run.name} {row}")
        LOG.info("evaluation at step %d: %s", place.step, _line(plain))
        return plain

    def record_end(self) -> None:
        """Write `finished.json` on rank 0."""
        place = self.place
        finished = {"steps": place.step, "epochs": place.epoch + 1, "minutes": round(place.seconds / 60, 1)}
        if self.main:
            (self.out / FINISHED).write_text(json.dumps(finished | {"best": place.best, "metric": self.run.metric}))


def _line(scalars: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.5g}" for name, value in scalars.items())


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
