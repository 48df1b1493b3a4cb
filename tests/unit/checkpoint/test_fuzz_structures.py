"""Structures of any kind in files of weights, voices, indexes and settings: read, or refused by an error in words."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.fuzzing import examples
from torch import Tensor

from tritone.checkpoint.onnx_data import data_files
from tritone.checkpoint.shards import network_files
from tritone.checkpoint.torch_file import read_torch_file
from tritone.checkpoint.unwrap import (
    ANY,
    AVERAGED,
    COUNTERS,
    HOLDERS,
    OTHERS,
    TRAINING,
    TRANSPARENT,
    Sought,
    sought,
    unwrap,
)
from tritone.checkpoint.weights import read_state
from tritone.errors import ConfigError, TritoneError
from tritone.families.bert_vits2.config import parse_config
from tritone.families.bert_vits2.networks.weights import GENERATOR
from tritone.families.cosyvoice.voices.speakers import read_voices

STATE = {"enc_p.emb.weight": torch.ones(2, 2), "dec.bias": torch.ones(2), "emb_g.weight": torch.ones(1, 2)}
LANGUAGE_MODEL = sought("model lm_heads")
NAMES = st.sampled_from((*HOLDERS, *AVERAGED, *OTHERS, *TRAINING, *sorted(COUNTERS), "generator", "net_g", "a", ""))
PARTS = st.sampled_from((*sorted(TRANSPARENT), *HOLDERS, *AVERAGED, *OTHERS, "enc_p", "dec", "generator", "", "x"))
KEYS = NAMES | st.lists(PARTS, min_size=1, max_size=4).map(".".join) | st.sampled_from(list(STATE)) | st.integers(0, 2)
TENSORS = st.sampled_from([torch.zeros(()), torch.zeros(0), torch.ones(2, 2), torch.ones(3).bfloat16(), torch.ones(1)])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none()
CONTENT = st.recursive(
    TENSORS | NUMBERS | st.text(max_size=4) | st.lists(NUMBERS, max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=5) | st.lists(inner, max_size=2),
    max_leaves=12,
)
SHAPES = [np.zeros(192, np.float32), np.zeros((1, 192)), np.zeros(0), np.full(192, np.nan), np.zeros(3, np.int8)]
ARRAYS = st.sampled_from([*SHAPES, np.zeros(())])
VECTORS = st.sampled_from([torch.zeros(192), torch.zeros(1, 192).bfloat16(), torch.nn.Parameter(torch.zeros(192))])
LISTS = st.recursive(NUMBERS | st.text(max_size=2), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
VALUES = ARRAYS | VECTORS | TENSORS | LISTS | st.lists(st.just(0.5), min_size=192, max_size=192)
FIELDS = st.sampled_from(
    ["embedding", "flow_embedding", "llm_embedding", "speech_token", "speech_feat", "prompt_text", "x"]
)
FILES = st.sampled_from(["a", "..", "/etc", "model-00001-of-00002.safetensors"])
VOICES = st.dictionaries(st.text(max_size=3) | st.integers(), VALUES | st.dictionaries(FIELDS, VALUES), max_size=3)


def refused(read: Callable[[], object]) -> bool:
    """Return whether a reader raises one of the product's errors; others are not caught."""
    try:
        read()
    except TritoneError as error:
        assert str(error)
        return True
    return False


def saved(path: Path, content: Any) -> bool:
    """Write a file of torch.save; return whether torch can write such content."""
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer)
    except (OverflowError, ValueError):
        return False
    path.write_bytes(buffer.getvalue())
    return True


@given(CONTENT)
@examples(60)
def test_weights_inside_anything(content: Any) -> None:
    for network in (GENERATOR, LANGUAGE_MODEL, ANY):
        found: list[dict[str, Tensor]] = []
        if not refused(partial(_unwrapped, content, network, found)):
            assert found[0] and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found[0].items())


def _unwrapped(content: Any, network: Sought, found: list[dict[str, Tensor]]) -> None:
    found.append(unwrap(content, Path("a.pt"), network))


@given(
    st.lists(st.sampled_from((*HOLDERS, "generator", "net_g")), max_size=3),
    st.lists(st.sampled_from((*sorted(TRANSPARENT), *HOLDERS, "generator")), max_size=3),
    st.dictionaries(st.sampled_from([*TRAINING, *sorted(COUNTERS)]), NUMBERS | st.just({"state": {0: {}}}), max_size=3),
    st.dictionaries(st.sampled_from([*OTHERS, *AVERAGED]), st.just({"convs.0.weight": torch.zeros(4)}), max_size=2),
)
@examples(150)
def test_a_state_is_found_in_every_wrapping(
    holders: list[str], prefixes: list[str], beside: dict[str, Any], others: dict[str, Any]
) -> None:
    start = "".join(f"{prefix}." for prefix in prefixes)
    content: Any = {f"{start}{key}": value for key, value in STATE.items()}
    for holder in holders:
        content = {holder: content, **beside, **others}
    found = unwrap(content, Path("a.pt"), GENERATOR)
    assert found.keys() == STATE.keys() and all(found[key] is STATE[key] for key in STATE)


@given(CONTENT)
@examples(40)
def test_files_of_weights_with_anything(tmp_path_factory: Any, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.pt"
    assume(saved(path, content))
    refused(lambda: read_state(path, network=GENERATOR))
    refused(lambda: read_torch_file(path))


@given(VOICES)
@examples(100)
def test_registries_of_voices_with_anything(tmp_path_factory: Any, entries: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    assume(saved(folder / "spk2info.pt", entries))
    found: list[Any] = []
    if not refused(lambda: found.append(read_voices(folder))):
        assert len(found[0].names) == len({str(name) for name in entries})
        for name in found[0].names:
            voice = found[0].get(name)
            assert voice.embedding.shape == (192,) and np.isfinite(voice.embedding).all()
            assert voice.llm_embedding is None or len(voice.llm_embedding) in (0, 192)


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 255))
@examples(60)
def test_pickled_arrays_with_a_changed_byte(tmp_path_factory: Any, tail: bytes, place: int, byte: int) -> None:
    import zipfile

    path = tmp_path_factory.getbasetemp() / "arrays.pt"
    data = bytearray(pickle.dumps({"a": np.zeros(4, np.float32), "b": np.float64(3)}, 2))
    data[place % len(data)] = byte
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", bytes(data) + tail)
    refused(lambda: read_torch_file(path))


@given(st.dictionaries(st.text(max_size=3), FILES | NUMBERS))
@examples(60)
def test_indexes_with_anything(tmp_path_factory: Any, table: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "parts"
    folder.mkdir(exist_ok=True)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    found: list[Path] = []
    if not refused(lambda: found.extend(network_files(folder))):
        assert all(path.is_file() and path.parent == folder for path in found)


@given(st.binary(max_size=300))
@examples(80)
def test_onnx_files_of_any_bytes(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.onnx"
    path.write_bytes(content)
    assert all(isinstance(name, str) for name in data_files(path))


@given(st.dictionaries(st.sampled_from(["model", "data", "train", "version"]), CONTENT | LISTS | st.dictionaries(
    st.sampled_from(["spk2id", "n_speakers", "hop_length", "version", "upsample_rates"]),
    LISTS | st.dictionaries(st.text(max_size=2), NUMBERS | st.text(max_size=2), max_size=3))))  # fmt: skip
@example({"model": {"state_dict": None, 0: None}})
@examples(100)
def test_settings_of_bert_vits2_with_anything(document: Any) -> None:
    try:
        config = parse_config(document)
    except ConfigError:
        return
    assert all(type(row) is int and row >= 0 for row in config.data.spk2id.values())
