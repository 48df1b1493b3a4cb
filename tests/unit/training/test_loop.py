"""The loop on a toy run: exact resume, atomic files, best and last N, signals, data parallelism."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.core import checkpointing, distributed
from training.core.loop import train
from training.core.run import FINISHED, Evaluation, Run, warmup_cosine
from tritone.errors import CheckpointError, TritoneError


class Toy:
    """A noisy regression with dropout: depends on data order, torch's, NumPy's and the scheduler's state."""

    def __init__(self, kill_at: int | None = None, updates: bool = True) -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        self.network = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-2)
        self.kill_at, self.updates, self.loaded, self.scores = kill_at, updates, [], iter([3.0, 1.0, 2.0] + [5.0] * 90)

    def batches(self, epoch: int, skip: int):
        mine = np.random.default_rng([7, epoch]).permutation(10)[distributed.rank() :: distributed.world_size()]
        for index in mine[skip:]:
            self.loaded.append((epoch, int(index)))
            yield torch.randn(8, 4, generator=torch.Generator().manual_seed(int(index)))

    def step(self, batch: torch.Tensor, step: int) -> dict[str, float]:
        noise = float(np.random.randn())
        loss = ((self.network(batch) - batch.sum(1, keepdim=True) - 0.1 * noise) ** 2).mean()
        if self.updates:
            distributed.update(loss, self.optimizer, clip=1.0)
        else:
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": float(loss.detach())}

    def evaluate(self) -> Evaluation:
        assert not self.network.training
        torch.rand(3)  # must not disturb the training's random numbers
        np.random.rand(3)
        scalars = {"error": np.float64(next(self.scores))}
        return Evaluation(scalars, {"mel": np.random.rand(8, 5)}, {"tone": (np.zeros(160), 16000)})

    def run(self) -> Run:
        return Run(
            name="toy",
            networks={"net": self.network},
            optimizers={"adam": self.optimizer},
            batches=self.batches,
            step=self.step,
            evaluate=self.evaluate,
            metric="error",
            max_steps=23,
            schedulers={"adam": warmup_cosine(0.1)},
        )


def weights(toy: Toy) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in toy.network.parameters()])


@pytest.mark.parametrize("kill_at", [4, 9, 16])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, kill_at: int) -> None:
    whole = Toy()  # each toy seeds the generators, so it is made just before it trains
    assert train(whole.run(), tmp_path / "whole", eval_every=6, save_every=100) == 23
    first = Toy(kill_at)
    assert train(first.run(), tmp_path / "cut", eval_every=6, save_every=100) == kill_at + 1
    assert not torch.equal(weights(first), weights(whole))
    assert not (tmp_path / "cut" / FINISHED).exists()
    second = Toy()
    assert train(second.run(), tmp_path / "cut", eval_every=6, save_every=100) == 23
    assert torch.equal(weights(second), weights(whole))
    assert json.loads((tmp_path / "cut" / FINISHED).read_text())["steps"] == 23
    consumed = first.loaded[: kill_at + 1] + second.loaded
    assert consumed == whole.loaded, "the resumed run must see exactly the batches that were left, loading no others"
    for a, b in zip(whole.optimizer.state.values(), second.optimizer.state.values(), strict=True):
        assert torch.equal(a["exp_avg_sq"], b["exp_avg_sq"])


def test_keeps_best_and_last(tmp_path: Path) -> None:
    train(Toy().run(), tmp_path, eval_every=4, save_every=4, keep=2)
    assert [step for step, _ in checkpointing.steps_saved(tmp_path)] == [20, 23]
    best = checkpointing.load(tmp_path / "best.pt")
    assert (best["step"], best["error"]) == (8, 1.0)
    assert checkpointing.best_network(tmp_path, "net").keys() == Toy().network.state_dict().keys()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 6
    assert list((tmp_path / "tensorboard").iterdir())


def test_minutes_end_the_run_and_the_schedule(tmp_path: Path) -> None:
    toy = Toy()
    done = train(toy.run(), tmp_path, steps=10**9, minutes=0.02, eval_every=10**9, save_every=10**9)
    assert 1 < done < 10**6
    assert toy.optimizer.param_groups[0]["lr"] < 0.05 * toy.optimizer.param_groups[0]["base_lr"]


def test_evaluating_never_changes_the_training(tmp_path: Path) -> None:
    often, never = Toy(), Toy()
    for toy, every in ((often, 2), (never, 1000)):
        torch.manual_seed(5)
        np.random.seed(5)
        train(toy.run(), tmp_path / str(every), eval_every=every, save_every=1000)
    assert torch.equal(weights(often), weights(never))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, hidden: bool) -> None:
    toy = Toy()

    def step(batch: torch.Tensor, number: int) -> dict[str, float]:
        scalars = toy.step(batch * (float("nan") if number == 5 and not hidden else 1), number)
        return scalars | ({"other": math.inf} if number == 5 and hidden else {"gradient": math.inf})

    run = dataclasses.replace(toy.run(), step=step, utterances=lambda epoch, number: [f"e{epoch}b{number}", "u9"])
    problem = "not finite: other=inf" if hidden else "the loss is nan and its gradients' norm nan"
    with pytest.raises(TritoneError) as caught:
        train(run, tmp_path, eval_every=1000, save_every=4)
    message = str(caught.value)
    assert message.startswith(f"toy ended at step 6, epoch 0: {problem}. Its batch: e0b5, u9. Look at these recordings")
    assert [step for step, _ in checkpointing.steps_saved(tmp_path)] == [4] and not (tmp_path / FINISHED).exists()
    assert bool(torch.isfinite(weights(toy)).all()), "the step that is not finite changes no weight"


def test_gradients_are_averaged_not_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (torch.nn.Parameter(torch.zeros(size)) for size in ((2, 3), (4,)))
    first.grad, second.grad = torch.full((2, 3), 1.0), torch.arange(4.0)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda flat: flat.add_(torch.arange(10.0)))
    distributed.average_gradients([first, second])
    assert torch.equal(first.grad, (1 + torch.arange(6.0).view(2, 3)) / 2)
    assert torch.equal(second.grad, (torch.arange(4.0) + torch.arange(6.0, 10.0)) / 2)


def test_warmup_cosine() -> None:
    factor = warmup_cosine(0.1, floor=0.02)
    assert [factor(x) for x in (0.05, 0.1, 1.0)] == pytest.approx([0.5, 1.0, 0.02])


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    checkpointing.save({"a": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpointing.save({"a": lambda: None}, path)
    assert checkpointing.load(path) == {"a": 1}


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "step-00000003.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"step-00000003\.pt cannot be read .* Delete it to resume"):
        train(Toy().run(), tmp_path)
    with pytest.raises(CheckpointError, match=r"best\.pt does not exist: no evaluation has finished"):
        checkpointing.best_network(tmp_path, "net")
    checkpointing.save({"networks": {"net": {}}}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"has no network 'flow'; it has net\."):
        checkpointing.best_network(tmp_path, "flow")


def test_an_empty_corpus_is_reported(tmp_path: Path) -> None:
    run = Toy().run()
    empty = Run(**{**run.__dict__, "batches": lambda epoch, skip: []})
    with pytest.raises(RuntimeError, match=r"toy: epoch 0 has no batches; is the corpus empty\?"):
        train(empty, tmp_path)


def _two_processes(tmp_path: Path, updates: bool) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_loop import Toy; from training.core import distributed; from training.core.loop import train\n"
        "distributed.start(torch.device('cpu')); toy = Toy(updates=sys.argv[3] == 'True')\n"
        "one = torch.nn.Parameter(torch.zeros(1)); rate = torch.optim.SGD([one], 1.0)\n"
        "distributed.update(one.sum() * (1 + 4 * distributed.rank()), rate)\n"
        "assert one.item() == -3, f'the mean of gradients 1 and 5 is 3, not {-one.item()}'\n"
        "[p.data.add_(distributed.rank()) for p in toy.network.parameters()]\n"
        "train(toy.run(), Path(sys.argv[2]), steps=7, eval_every=5, save_every=5)\n"
    )
    path = tmp_path / "two.py"
    path.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    command += [str(Path(__file__).parent), str(tmp_path / "out"), str(updates)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    done = _two_processes(tmp_path, updates=True)
    assert done.returncode == 0, done.stderr[-3000:]
    state = checkpointing.load(tmp_path / "out" / "step-00000007.pt")
    assert len(state["random"]) == 2, "each process resumes its own random numbers"
    assert (state["at"]["epoch"], state["at"]["position"]) == (1, 2), "five of ten batches an epoch are this process's"


def test_processes_drifting_apart_are_noticed(tmp_path: Path) -> None:
    done = _two_processes(tmp_path, updates=False)
    assert done.returncode != 0
    assert "network 'net' differs between processes" in done.stderr
    assert "training.core.distributed.update" in done.stderr
