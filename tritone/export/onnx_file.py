"""ONNX files of any size: the graph in `<stage>.onnx`, and weights that do not fit in a data file beside it.

A weight in a data file stays there when its graph is read: the tensor in memory holds the file's absolute path, and
`values_of` maps it. Gigabytes are thus rewritten in little memory, and protobuf never reaches its limit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tritone.build.layout import data_file
from tritone.errors import ArtifactError
from tritone.export.onnx_graph import subgraphs

LARGEST_BYTES = 2_000_000_000
"""The largest file that holds its weights; protobuf's own limit is 2 GiB."""
INLINE = 1024
"""Weights of fewer bytes stay in the graph, where shape inference reads those that hold shapes."""
ALIGNMENT = 4096
"""Each weight starts on a memory page, so that engines can map it."""
EXTERNAL = 1
"""The `data_location` of tensors outside the graph."""
REBUILD = "run: tritone build --formats onnx"


def load(path: Path) -> Any:
    """Return the model in the file; large weights stay in the data file, see `values_of`.

    Raises:
        ArtifactError: the file is missing or damaged, or a data file it names is.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # a missing file and the protobuf reader raise unrelated types
        raise ArtifactError(f"{path} cannot be read ({error}); {REBUILD}") from error
    for tensor in model.graph.initializer:
        if tensor.data_location == EXTERNAL and attach(tensor, path).nbytes < INLINE:
            inline(tensor)
    for tensor in inner_tensors(model.graph):
        if tensor.data_location == EXTERNAL:
            attach(tensor, path)
            inline(tensor)
    return model


def save(model: Any, path: Path, largest: int = LARGEST_BYTES) -> None:
    """Write the model to `path`, and its weights to `data_file(path)` if one file would exceed `largest` bytes.

    The model must not be used afterwards: its weights have moved to the file.
    """
    weights = model.graph.initializer
    outside = [tensor for tensor in weights if tensor.data_location == EXTERNAL]
    if model.ByteSize() + sum(values_of(tensor).nbytes for tensor in outside) <= largest:
        for tensor in outside:
            inline(tensor)
    else:
        with open(data_file(path), "wb") as file:
            for tensor in weights:
                move(tensor, file, data_file(path).name)
    path.write_bytes(model.SerializeToString())


def attach(tensor: Any, path: Path) -> np.ndarray:
    """Return the values of a tensor outside the graph just read from `path`, which from now on names the file in
    full.
    """
    name, offset = place(tensor)
    source = path.parent / name
    if source.parent != path.parent:
        raise ArtifactError(f"{path} keeps weights in {source}, which is not beside it; {REBUILD}")
    if not source.is_file():
        raise ArtifactError(f"{path} keeps weights in {source}, which does not exist; {REBUILD}")
    put(tensor, str(source.absolute()), offset)
    try:
        return values_of(tensor)
    except ValueError as error:  # mapped beyond its end
        raise ArtifactError(f"{source} is shorter than {path} says; {REBUILD}") from error


def values_of(tensor: Any) -> np.ndarray:
    """Return a tensor's values; those of a tensor outside the graph are mapped, not read."""
    from onnx import helper, numpy_helper

    if tensor.data_location != EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    name, offset = place(tensor)
    return np.memmap(name, helper.tensor_dtype_to_np_dtype(tensor.data_type), "r", offset, tuple(tensor.dims))


def like(tensor: Any, array: np.ndarray, name: str, folder: Path | None = None) -> Any:
    """Return a tensor with other values; in memory like `tensor`, or like it outside, in a new file in `folder`."""
    from onnx import TensorProto, helper, numpy_helper

    if folder is None or tensor.data_location != EXTERNAL or array.nbytes < INLINE:
        return numpy_helper.from_array(array, name)
    handle, source = tempfile.mkstemp(dir=folder)
    with open(handle, "wb") as file:
        array.tofile(file)
    made = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
    put(made, source, 0)
    return made


def move(tensor: Any, file: BinaryIO, name: str) -> None:
    """Append a weight to the data file `name`, unless it is small."""
    content: Any = tensor.raw_data if tensor.data_location != EXTERNAL else values_of(tensor).reshape(-1).view(np.uint8)
    if len(content) < INLINE:
        return
    file.write(bytes(-file.tell() % ALIGNMENT))
    start = file.tell()
    file.write(content)
    tensor.ClearField("raw_data")
    put(tensor, name, start, len(content))


def inline(tensor: Any) -> None:
    """Move the values of a tensor outside the graph into the graph."""
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values_of(tensor)), tensor.name))


def place(tensor: Any) -> tuple[str, int]:
    """Return the file and offset of a tensor outside the graph."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries.get("offset", 0))


def put(tensor: Any, location: str, offset: int, length: int | None = None) -> None:
    """Set the file, offset and length of a tensor outside the graph."""
    tensor.data_location = EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def inner_tensors(graph: Any) -> Iterator[Any]:
    """Yield the constants of a graph other than its weights: those of its nodes, and of the graphs inside them."""
    for node in graph.node:
        parts = list(subgraphs(node))
        for inner in (node, *(child for part in parts for child in part.node)):
            yield from (attribute.t for attribute in inner.attribute if attribute.HasField("t"))
        for part in parts:
            yield from part.initializer
