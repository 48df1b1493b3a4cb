"""Files of torch.save that would expand when read are refused, by either reader and in either format."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tritone.checkpoint.torch_file import read_torch_file
from tritone.checkpoint.weights import read_data, read_safetensors, read_state
from tritone.errors import CheckpointError

READERS = (read_data, read_torch_file)
Reader = Callable[[Path], Any]


class Rebuilt:
    """Pickles as a tensor of any shape over the storage of another."""

    def __init__(self, tensor: torch.Tensor, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments: tuple[Any, ...] = (tensor.storage(), 0, size, stride, False, collections.OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Bytes:
    """Pickles as a call that makes as many bytes as it says."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (1 << 40,)


def archive(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> Path:
    """Return the path of an archive in torch's layout."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3\n")
        for name, data in records.items():
            file.writestr(f"archive/data/{name}", data)
    return path


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("size", [(1 << 34,), (1 << 17, 1 << 17), (1 << 62,)])
def test_a_tensor_that_repeats_its_storage(tmp_path: Path, read: Reader, size: tuple[int, ...]) -> None:
    torch.save({"x": Rebuilt(torch.zeros(4), size, (0,) * len(size))}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt .*(much larger than|is not a complete file of torch\.save)"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("read", READERS)
def test_a_storage_that_is_smaller_than_the_shape(tmp_path: Path, read: Reader) -> None:
    torch.save({"x": Rebuilt(torch.zeros(4), (1 << 30,), (1,))}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt "):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("read", READERS)
def test_tensors_that_share_a_storage_are_counted_each(tmp_path: Path, read: Reader) -> None:
    big = torch.zeros(1 << 20)
    torch.save({str(index): big.view(-1) for index in range(30)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"shape \[1048576\].* much larger than"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("read", READERS)
def test_tied_and_expanded_tensors_are_read(tmp_path: Path, read: Reader) -> None:
    tied, row = torch.arange(1000.0), torch.arange(4.0)
    torch.save({"a": tied, "b": tied, "c": row.expand(50, 4), "d": torch.zeros(0, 5)}, tmp_path / "a.pt")
    held = read(tmp_path / "a.pt")
    assert np.array_equal(held["a"], held["b"]) and held["c"].shape == (50, 4) and held["d"].shape == (0, 5)


@pytest.mark.parametrize("read", READERS)
def test_a_compressed_archive(tmp_path: Path, read: Reader) -> None:
    torch.save({"x": torch.zeros(1 << 23)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w", 8) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match=r"b\.pt has \d+ bytes that would expand to \d+; at most 4 times"):
        read(tmp_path / "b.pt")


@pytest.mark.parametrize("read", READERS)
def test_a_pickle_that_asks_for_memory(tmp_path: Path, read: Reader) -> None:
    content = b"\x80\x02}r\xff\xff\xff\x7f."  # an empty dict, noted at place 2 147 483 647 of the memo
    with pytest.raises(CheckpointError, match=r"a\.pt has a pickle whose memo begins at 2147483647"):
        read(archive(tmp_path / "a.pt", content))


def test_the_older_format_is_examined_too(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert read_state(tmp_path / "a.pt")["x"].tolist() == [1, 1, 1]
    torch.save({"x": Bytes()}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    torch.save({"x": Bytes()}, tmp_path / "c.pt")
    for name in ("b.pt", "c.pt"):
        with pytest.raises(CheckpointError, match=r"\.pt names .* bytearray, which is not needed for tensors"):
            read_data(tmp_path / name)


def test_numpy_reader_refuses_a_name_in_place_of_a_type(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds more than data .* builtins\.bytearray|names"):
        read_torch_file(archive(tmp_path / "a.pt", pickle.dumps(Bytes(), 2)))


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_without_plain_data(tmp_path: Path, kind: str) -> None:
    tensor = torch.zeros(3, 3).to_sparse() if kind == "sparse" else torch.zeros(3, device="meta")
    torch.save({"x": tensor}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt has a tensor that is sparse, quantized or without data"):
        read_data(tmp_path / "a.pt")


def test_keys_of_a_state_are_text(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="has a key that is a int, 1; expected text"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "header",
    [
        b'{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}',
        b'{"x":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4]}}',
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000]}}',
        b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b"[" * 100_000,
    ],
)
def test_headers_of_safetensors_that_lie(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(CheckpointError, match=r"a\.safetensors is truncated or not a file of safetensors: "):
        read_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("length", [1 << 40, (1 << 64) - 1, 0])
def test_a_header_of_safetensors_that_is_longer_than_the_file(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    os.truncate(tmp_path / "a.safetensors", 1 << 20)
    with pytest.raises(CheckpointError, match="is truncated or not a file of safetensors"):
        read_safetensors(tmp_path / "a.safetensors")
