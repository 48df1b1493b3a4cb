"""Weights are read strictly and as data, with a message for everything that can be wrong, and written in one go."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from tritone.checkpoint.weights import load_strict, read_state, write_atomic, write_state
from tritone.errors import CheckpointError


class Code:
    """An object whose unpickling would create a file."""

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, ("hacked", os.O_CREAT)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_state(path, {"x": torch.zeros(1)})

    def fail(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert read_state(path).keys() == {"x"} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n", None])
def test_damaged_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "llm.pt"
    torch.save({"x": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(CheckpointError, match=r"bytes\) is not a complete file of torch\.save") as error:
        read_state(path)
    assert ("git lfs pull" in str(error.value)) == bool(content and content.startswith(b"version"))


def test_a_missing_weights_file_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "flow.pt").touch()
    with pytest.raises(CheckpointError, match=r"llm\.pt does not exist; .* has flow\.pt"):
        read_state(tmp_path / "llm.pt")


def test_pickled_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Code()}, tmp_path / "llm.pt")
    with pytest.raises(CheckpointError, match=r"pickled code or objects \((posix|nt)\.open\), which are never run"):
        read_state(tmp_path / "llm.pt")
    (tmp_path / "flow.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "flow.pt")
    assert not (tmp_path / "hacked").exists()


def test_a_file_of_other_things_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "llm.pt")
    with pytest.raises(CheckpointError, match="holds a list; expected a state_dict, key -> tensor"):
        read_state(tmp_path / "llm.pt")


def test_strict_loading_lists_every_difference() -> None:
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(8)))
    state = network.state_dict()
    load_strict(network, state, "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt does not fit its network: 1 missing keys: 7\.bias; 1 unexpected"):
        load_strict(network, {k: v for k, v in state.items() if k != "7.bias"} | {"extra": torch.zeros(1)}, "a.pt")
    with pytest.raises(CheckpointError, match=r"16 missing keys: 0\.weight, .*\.\.\.; .*the file of another model"):
        load_strict(network, {"conv.weight": torch.zeros(1)}, "a.pt")
    with pytest.raises(CheckpointError, match=r"1 wrong shapes: 0\.bias is \[3\] instead of \[2\]"):
        load_strict(network, state | {"0.bias": torch.zeros(3)}, "a.pt")


def test_assigned_weights_are_the_tensors_themselves() -> None:
    with torch.device("meta"):
        module = torch.nn.Linear(3, 2)
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"weight is \[3, 2\] instead of \[2, 3\]"):
        load_strict(module, {**state, "weight": torch.ones(3, 2)}, "here", assign=True)
    with pytest.raises(CheckpointError, match="1 missing keys: bias"):
        load_strict(module, {"weight": state["weight"]}, "here", assign=True)
    load_strict(module, state, "here", assign=True)
    assert module.weight.data_ptr() == state["weight"].data_ptr()
    assert module(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]
