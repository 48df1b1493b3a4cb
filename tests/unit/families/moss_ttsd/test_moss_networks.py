"""`load_networks`: what it returns, its fallbacks, and a sentence for everything that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.key_weights import published_key
from support.moss_helpers import CODEC_YAML, described, lm_config, tiny_codec, tiny_lm

from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem
from tritone.families.moss_ttsd import networks
from tritone.families.moss_ttsd.lm.checkpoint import load_lm
from tritone.families.moss_ttsd.networks import load_networks, resolve_device, resolve_dtype


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model with its tokenizer, and the codec's file beside it."""
    from tokenizers import Tokenizer, models

    path = tmp_path_factory.mktemp("moss")
    lm = tiny_lm(lm_config("tiny", path))
    save_file({key: value.contiguous() for key, value in lm.state_dict().items()}, path / "model.safetensors")
    Tokenizer(models.BPE({"a": 0, "b": 1}, [])).save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    torch.save({"generator": tiny_codec().state_dict()}, path / "xy_tokenizer.ckpt")
    return path


def load(folder: Path, **changes: Any) -> Any:
    asked: dict[str, Any] = {"torch_dtype": "float32", "attn_implementation": "sdpa", "device": "cpu"} | changes
    return load_networks(
        asked.pop("model_path", folder),
        asked.pop("config", CODEC_YAML),
        asked.pop("checkpoint", folder / "xy_tokenizer.ckpt"),
        **asked,
    )


def test_three_things_come_back_ready(folder: Path) -> None:
    tokenizer, lm, codec = load(folder, warm_up=True)
    assert tokenizer.encode("ab") == [0, 1]
    assert not lm.training and not codec.training
    wanted = tiny_lm(lm.config).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in lm.state_dict().items())


@torch.no_grad()
def test_half_precision_halves_the_language_model_alone(folder: Path) -> None:
    _, whole, _ = load(folder)
    _, half, codec = load(folder, torch_dtype=None)
    assert {value.dtype for value in half.state_dict().values()} == {torch.bfloat16}
    assert next(codec.parameters()).dtype == torch.float32
    rotary = half.model.language_model.rotary_emb
    assert rotary.inv_freq.dtype == torch.float32
    assert torch.equal(rotary.inv_freq, whole.model.language_model.rotary_emb.inv_freq)
    rows = torch.randint(0, 1000, (1, 12, 8), generator=torch.Generator().manual_seed(0))
    for found, wanted in zip(half(rows), whole(rows), strict=True):
        assert float((found.float() - wanted).abs().max()) < 0.1 * float(wanted.abs().max())


@torch.no_grad()
def test_files_with_heads_unused_tables_shards_and_bins_load_alike(folder: Path, tmp_path: Path) -> None:
    config = lm_config("tiny", tmp_path)
    state = tiny_lm(config).state_dict()
    state["model.language_model.embed_tokens.weight"] = torch.zeros(3, 3)
    state["lm_heads.1.weight"] = state["model.embedding_list.1.weight"].clone()
    state["codec_model.x"] = torch.zeros(1)
    keys = sorted(state)
    parts = [tmp_path / f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for file, part in zip(parts, (keys[:9], keys[9:]), strict=True):
        torch.save({key: state[key] for key in part}, file)
    found = load_lm(config, tmp_path).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.items())
    state["lm_heads.1.weight"] += 1
    torch.save(state, tmp_path / "pytorch_model.bin")
    for file in parts:
        file.unlink()
    with pytest.raises(CheckpointError, match=r"lm_heads.1.weight differs from model.embedding_list.1.weight"):
        load_lm(config, tmp_path)


def test_dtypes_and_devices_are_checked() -> None:
    assert resolve_dtype("torch.float16") == resolve_dtype(torch.float16) == torch.float16
    with pytest.raises(ConfigError, match="torch_dtype 'int8' is not supported; use one of float32, bfloat16, float16"):
        resolve_dtype("int8")
    with pytest.raises(ConfigError, match="device 'tpu9' is unknown to torch"):
        resolve_device("tpu9")
    if not torch.cuda.is_available():
        assert resolve_device(None).type == "cpu"
        with pytest.raises(ConfigError, match="device 'cuda': this machine has no GPU"):
            resolve_device("cuda")


def test_each_failure_has_its_own_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model_path .*/none is not a directory"):
        load(folder, model_path=folder / "none")
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        load(folder, config=folder / "none.yaml")
    with pytest.raises(CheckpointError, match=r"none does not exist"):
        load(folder, checkpoint=folder / "none")
    with pytest.raises(CheckpointError, match=r"has no tokenizer: neither tokenizer.json nor vocab.json"):
        load(folder, model_path=tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"the tokenizer in .* cannot be read"):
        load(folder, model_path=tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ConfigError, match=r"config\.json does not exist"):
        load(folder, model_path=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(described()["config"]["tiny"]))
    with pytest.raises(CheckpointError, match=r"has no weights: neither model\*.safetensors nor pytorch_model\*.bin"):
        load(folder, model_path=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="truncated or not a file of safetensors"):
        load(folder, model_path=tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"model.embedding_list.0.weight": torch.zeros(1, 1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"embedding_list.0.weight is \[1, 1\] instead of \[152697, 16\]"):
        load(folder, model_path=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(described()["config"]["tiny"] | {"channels": 4}))
    with pytest.raises(ConfigError, match=r"has 4 channels and the codec .* 8; they do not belong together"):
        load(folder, model_path=tmp_path)


def test_no_memory_says_what_to_ask_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(networks, "load_lm", full)
    with pytest.raises(EnvironmentProblem, match=r"cpu has too little memory .* in float32: .*Ask for torch_dtype="):
        load(folder)


def test_the_released_weight_norm_layout_loads_too(folder: Path, tmp_path: Path) -> None:
    state = {published_key(key): value for key, value in tiny_codec().state_dict().items()}
    torch.save(state, tmp_path / "MOSS_TTSD_tokenizer")
    _, _, codec = load(folder, checkpoint=tmp_path / "MOSS_TTSD_tokenizer")
    book = codec.quantizer.quantizers[0].codebook
    assert np.array_equal(book, state["quantizer.quantizers.0.codebook"])
