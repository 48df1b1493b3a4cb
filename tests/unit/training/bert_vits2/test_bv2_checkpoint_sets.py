"""Checkpoint sets on four toy networks: exact resume, kills at the worst moments, full disks, damaged files."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.bert_vits2 import checkpoints
from training.bert_vits2.checkpoints import CheckpointSets, best_set, incomplete, sets
from training.bert_vits2.freeze import freeze, trainable
from training.core import distributed
from training.core.loop import train
from training.core.run import Evaluation, Run
from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem

NAMES = ("G", "D", "WD", "DUR")


class Toy:
    """Four networks and optimisers; a step depends on all random numbers, on the epoch's rate and on the batch."""

    def __init__(self, lr: float = 1e-2, width: int = 8) -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        self.networks: dict[str, torch.nn.Module] = {
            name: torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(0.2), torch.nn.Linear(width, 1))
            for name in NAMES
        }
        self.optimizers = {
            name: torch.optim.AdamW(network.parameters(), lr, betas=(0.8, 0.99))
            for name, network in self.networks.items()
        }
        self.lr, self.scores, self.loaded = lr, iter([3.0, 1.0] + [5.0] * 90), []
        self.delay = 0.0

    def batches(self, epoch: int, skip: int):
        for index in np.random.default_rng([7, epoch]).permutation(5)[skip:]:
            self.loaded.append((epoch, int(index)))
            yield torch.randn(8, 4, generator=torch.Generator().manual_seed(int(index)))

    def step(self, batch: torch.Tensor, step: int) -> dict[str, float]:
        time.sleep(self.delay)
        found = {}
        for name, network in self.networks.items():
            loss = (network(batch) - batch.sum(1, keepdim=True) - 0.1 * float(np.random.randn())).square().mean()
            distributed.update(loss, self.optimizers[name], clip=1.0)
            found[name] = float(loss.detach())
        return found

    def run(self) -> Run:
        return Run(
            name="toy",
            networks=self.networks,
            optimizers=self.optimizers,
            batches=self.batches,
            step=self.step,
            evaluate=lambda: Evaluation({"mel": next(self.scores)}),
            metric="mel",
            max_steps=17,
            rates=dict.fromkeys(NAMES, lambda epoch: self.lr * 0.9**epoch),
        )

    def train(self, out: Path, steps: int, save_every: int = 4, eval_every: int = 100, **options: Any) -> Toy:
        store = CheckpointSets(out, options.pop("keep", 2), **options)
        train(self.run(), out, steps, eval_every=eval_every, save_every=save_every, store=store)
        return self

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for n in NAMES for p in self.networks[n].parameters()])


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name.startswith(("step-", ".step-")))


def test_a_set_holds_the_published_files_and_the_rest_of_the_state(tmp_path: Path) -> None:
    toy = Toy().train(tmp_path, 7, config='{"version": "2.3"}')
    folder = tmp_path / "step-00000007"
    assert sorted(p.name for p in folder.iterdir()) == [
        "DUR_7.pth", "D_7.pth", "G_7.pth", "WD_7.pth", "config.json", "set.json", "state.pt"
    ]  # fmt: skip
    published = torch.load(folder / "G_7.pth", weights_only=True)
    assert sorted(published) == ["iteration", "learning_rate", "model", "optimizer"]
    assert published["iteration"] == 2, "epochs are counted from one in these files"
    assert published["learning_rate"] == pytest.approx(1e-2 * 0.9)
    assert torch.equal(published["model"]["0.weight"], toy.networks["G"][0].weight)  # type: ignore[index]
    assert published["optimizer"]["state"][0]["step"] == 7
    state = torch.load(folder / "state.pt", weights_only=True)
    assert {k: state["at"][k] for k in ("step", "epoch", "position")} == {"step": 7, "epoch": 1, "position": 2}
    assert (folder / "config.json").read_text() == '{"version": "2.3"}'


@pytest.mark.parametrize("cut", [3, 5, 8])
def test_resumed_in_the_middle_of_an_epoch_equals_uninterrupted(tmp_path: Path, cut: int) -> None:
    whole = Toy().train(tmp_path / "whole", 12)
    first = Toy().train(tmp_path / "cut", cut)
    second = Toy().train(tmp_path / "cut", 12)
    assert torch.equal(second.weights(), whole.weights())
    assert first.loaded[:cut] + second.loaded[: 12 - cut] == whole.loaded[:12]
    assert second.optimizers["G"].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.9**2), "the decay is not lost"


def test_newest_sets_and_the_best_stay(tmp_path: Path) -> None:
    Toy().train(tmp_path, 12, save_every=2, eval_every=3, keep=2)
    assert names(tmp_path) == ["step-00000006", "step-00000010", "step-00000012"], "6 was the best evaluation"
    best = best_set(tmp_path)
    assert best == tmp_path / "step-00000006" and incomplete(best) == ""
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "set": "step-00000006", "step": 6, "metric": "mel", "value": 1.0
    }  # fmt: skip


def test_skip_optimizer_restarts_optimisers_alone(tmp_path: Path) -> None:
    first = Toy().train(tmp_path, 7)
    second = Toy()
    store = CheckpointSets(tmp_path, 2, skip_optimizer=True)
    train(second.run(), tmp_path, 7, store=store)
    assert torch.equal(second.weights(), first.weights())
    assert second.optimizers["G"].state_dict()["state"] == {}
    third = Toy()
    assert train(third.run(), tmp_path, 8, store=CheckpointSets(tmp_path, 2, skip_optimizer=True)) == 8
    assert third.loaded[0][0] == 1, "the position is kept"
    assert third.optimizers["G"].param_groups[0]["lr"] == pytest.approx(1e-2 * 0.9), "and so is the decay"


def test_settings_of_the_configuration_win_over_those_saved(tmp_path: Path) -> None:
    Toy().train(tmp_path, 3)
    toy = Toy(lr=1e-3)
    toy.optimizers["G"].param_groups[0]["weight_decay"] = 0.5
    toy.train(tmp_path, 4)
    group = toy.optimizers["G"].param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (1e-3, 0.5)
    assert toy.optimizers["G"].state_dict()["state"][0]["step"] == 4, "their state was restored all the same"


def test_another_order_of_batches_restarts_the_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Toy().train(tmp_path, 7, order={"batch_size": 8})
    toy = Toy().train(tmp_path, 8, order={"batch_size": 4})
    assert len(toy.loaded) >= 1 and toy.loaded[0] == (1, int(np.random.default_rng([7, 1]).permutation(5)[0]))
    assert "epoch 1 starts again, because the order of its batches has changed (batch_size 8 -> 4)" in caplog.text


HARM = {
    "missing": "D_8.pth is missing",
    "short": r"G_8.pth has 100 of \d+ bytes",
    "torn": "it has no readable set.json",
}


@pytest.mark.parametrize(("harm", "says"), HARM.items())
def test_an_incomplete_set_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str, says: str
) -> None:
    whole = Toy().train(tmp_path / "whole", 10)
    Toy().train(tmp_path / "cut", 8)
    newest = tmp_path / "cut" / "step-00000008"
    if harm == "missing":
        (newest / "D_8.pth").unlink()
    elif harm == "short":
        os.truncate(newest / "G_8.pth", 100)
    else:
        (newest / "set.json").write_text('{"fil')
    toy = Toy().train(tmp_path / "cut", 10)
    assert caplog.messages and re.search(says, caplog.text) and "is ignored" in caplog.text
    assert len(toy.loaded) >= 6, "went back to step 4"
    assert torch.equal(toy.weights(), whole.weights())
    assert incomplete(newest) == "", "the set was written anew on the way"


def test_no_complete_set_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    Toy().train(tmp_path, 3)
    (tmp_path / "step-00000003" / "WD_3.pth").unlink()
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoint sets .* is complete .*WD_3.pth is missing.*"
                                              r"delete them all to start again"):  # fmt: skip
        Toy().train(tmp_path, 4)


def test_a_damaged_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    Toy().train(tmp_path, 3)
    path = tmp_path / "step-00000003" / "D_3.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"step-00000003/D_3.pth is damaged: its SHA-256 .* Delete "):
        Toy().train(tmp_path, 4)


def rewrite(folder: Path, name: str, change: Any) -> None:
    """Changes a file of a set and makes the set's list agree, as somebody exchanging a file would."""
    import hashlib

    content = torch.load(folder / name, weights_only=True)
    torch.save(change(content), folder / name)
    listed = json.loads((folder / "set.json").read_text())
    data = (folder / name).read_bytes()
    listed["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "set.json").write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("G_3.pth", lambda c: c | {"iteration": 9}, r"G_3.pth is of epoch 9, but state.pt beside it is of epoch 1\."),
        ("DUR_3.pth", lambda c: {"model": c["model"]}, r"DUR_3.pth lacks iteration, optimizer; it has model\."),
        ("D_3.pth", lambda c: c | {"model": {k: v for k, v in c["model"].items() if k != "2.bias"}},
         r"step-00000003: networks 'D' does not fit this run: .*Missing key.*2\.bias"),
        ("D_3.pth", lambda c: c | {"optimizer": c["optimizer"] | {"param_groups": []}},
         r"step-00000003: optimizers 'D' does not fit this run: .*parameter group"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_an_error_with_path_and_keys(
    tmp_path: Path, name: str, change: Any, says: str
) -> None:
    Toy().train(tmp_path, 3)
    rewrite(tmp_path / "step-00000003", name, change)
    with pytest.raises(CheckpointError, match=f"(?s){says}"):
        Toy().train(tmp_path, 4)


def test_another_choice_of_networks_is_an_error(tmp_path: Path) -> None:
    Toy().train(tmp_path, 3)
    toy = Toy()
    del toy.networks["DUR"], toy.optimizers["DUR"]
    run = Run(**{**toy.run().__dict__, "rates": {}})
    with pytest.raises(CheckpointError, match=r"has networks D, DUR, G, WD, this run D, G, WD: continue with"):
        train(run, tmp_path, 4, store=CheckpointSets(tmp_path, 2))


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Toy().train(tmp_path / "whole", 10)
    out = tmp_path / "cut"
    Toy().train(out, 4)
    opened = open

    class Full:
        """A file on a disk that has room for 3000 bytes more."""

        def __init__(self, path: Path) -> None:
            self.file, self.left = opened(path, "wb"), 3000

        def write(self, data: bytes) -> int:
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    def full(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return Full(path) if mode == "wb" and "WD_8" in str(path) else opened(path, mode, *rest, **options)

    monkeypatch.setattr(checkpoints, "open", full, raising=False)
    says = (
        r"could not be written to .*: the disk is full \(\d+ MB free\)\. Complete sets in that folder: step-00000004\. "
        r"Make room .* training resumes from step-00000004\."
    )
    with pytest.raises(EnvironmentProblem, match=says):
        Toy().train(out, 10)
    monkeypatch.undo()
    assert names(out) == ["step-00000004"], "nothing half written is left either"
    assert torch.equal(Toy().train(out, 10).weights(), whole.weights())


def child(out: Path, code: str) -> subprocess.Popen[str]:
    """Return a process that trains the toy into `out` after running `code`."""
    root = Path(__file__).parents[4]
    script = (
        "import os, sys, signal, torch; from pathlib import Path\n"
        "sys.path[:0] = ['tests', 'tests/unit/training/bert_vits2']\n"
        "from test_bv2_checkpoint_sets import Toy\n"
        f"toy = Toy(); {code}\n"
        f"toy.train(Path({str(out)!r}), 40, save_every=3)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, "-c", script], cwd=root, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def test_killed_at_a_random_moment_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    whole = Toy().train(tmp_path / "whole", 40, save_every=3)
    out = tmp_path / "cut"
    process = child(out, "toy.delay = 0.05")
    target_step = int(np.random.default_rng().integers(6, 30))
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None and not any(step >= target_step for step, _ in sets(out)):
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().random()) * 0.15)  # anywhere between two saves
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, process.communicate()[1][-3000:]
    steps = [step for step, _ in sets(out)]
    assert 6 <= steps[-1] < 40, "killed on the way"
    assert torch.equal(Toy().train(out, 40, save_every=3).weights(), whole.weights())


@pytest.mark.parametrize("moment", ["in a file", "before the rename", "while the oldest is deleted"])
def test_killed_while_a_set_is_written_leaves_the_previous_intact(tmp_path: Path, moment: str) -> None:
    code = {
        "in a file": (
            "old = torch.save\n"
            "def save(content, file):\n"
            "    if 'model' in content and content['optimizer']['state'][0]['step'] == 6 and 'DUR' in file.file.name:\n"
            "        file.write(b'half a file'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
            "    old(content, file)\n"
            "torch.save = save"
        ),
        "before the rename": (
            "old = os.replace\n"
            "def replace(a, b):\n"
            "    os.kill(os.getpid(), signal.SIGKILL) if str(b).endswith('step-00000006') else old(a, b)\n"
            "os.replace = replace"
        ),
        "while the oldest is deleted": (
            "import shutil; old = shutil.rmtree\n"
            "def rmtree(path, *rest, **options):\n"
            "    next(Path(path).iterdir()).unlink(); os.kill(os.getpid(), signal.SIGKILL)\n"
            "shutil.rmtree = rmtree"
        ),
    }[moment]
    process = child(tmp_path, code)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGKILL, errors[-3000:]
    found = sets(tmp_path)
    assert found and all(incomplete(folder) == "" for _, folder in found)
    whole = Toy().train(tmp_path.parent / f"{tmp_path.name}-whole", 12, save_every=3)
    assert torch.equal(Toy().train(tmp_path, 12, save_every=3).weights(), whole.weights())
    assert not any(name.startswith(".") for name in names(tmp_path)), "what the kill left half written is gone"


def test_freezing_takes_parameters_out_of_training() -> None:
    toy = Toy()
    assert freeze(toy.networks, ["G.0.*", "D.?.bias"]) == ["D.0.bias", "D.2.bias", "G.0.bias", "G.0.weight"]
    assert [tuple(p.shape) for p in trainable("G", toy.networks["G"])] == [(1, 8), (1,)]


def test_patterns_that_freeze_nothing_or_everything_are_errors() -> None:
    toy = Toy()
    with pytest.raises(ConfigError, match=r"'G\.enc_p\.\*', which matches no parameter\. .* D\.0\.\*, D\.2"):
        freeze(toy.networks, ["G.enc_p.*"])
    freeze(toy.networks, ["DUR.*"])
    with pytest.raises(ConfigError, match=r"leaves nothing to train in DUR"):
        trainable("DUR", toy.networks["DUR"])
