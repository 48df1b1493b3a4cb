"""Weights as trainers save them are read as the plain state_dict is, and what is left out or in the way is named."""

from __future__ import annotations

import collections
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.golden_weights import tiny_state
from torch import Tensor

from tritone.checkpoint import unwrap
from tritone.checkpoint.unwrap import Sought, sought
from tritone.checkpoint.weights import read_state
from tritone.errors import CheckpointError
from tritone.families.bert_vits2.networks.weights import GENERATOR
from tritone.families.cosyvoice.checkpoint.folder import STATES, load_state
from tritone.families.moss_ttsd.codec.checkpoint import ROOTS as CODEC
from tritone.families.moss_ttsd.lm.checkpoint import ROOTS as LM

STATE = {"enc_p.emb.weight": torch.arange(6.0).reshape(2, 3), "dec.conv.bias": torch.ones(2), "flow.x": torch.zeros(1)}
OTHER = {"convs.0.weight": torch.zeros(4)}
OPTIMISER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
"""An optimiser's state, whose tensors are no weights."""


def under(prefix: str, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in (state or STATE).items()}


FILES: dict[str, tuple[Any, str]] = {
    "a plain state": (STATE, ""),
    "counters beside": ({**STATE, "epoch": 3, "step": 12000}, "epoch, step"),
    "counters as tensors": ({**STATE, "step": torch.tensor(7), "n_averaged": torch.tensor([2])}, "step, n_averaged"),
    "numbers of any name": ({**STATE, "val_wer": 0.3, "resumed": False, "note": None}, "val_wer, resumed, note"),
    "an optimiser beside": ({**STATE, "optimizer": OPTIMISER}, "optimizer"),
    "published": ({"model": STATE, "iteration": 5, "optimizer": OPTIMISER, "learning_rate": 1e-4}, "iteration"),
    "state_dict": ({"state_dict": STATE, "epoch": 1}, "epoch"),
    "nested": ({"model": {"state_dict": {"module": under("module.")}}, "args": {"lr": 1}}, "args"),
    "lightning": (
        {"state_dict": under("model."), "pytorch-lightning_version": "2.1", "loops": {"fit_loop": {"n": 1}},
         "callbacks": {"Best": {"best_model_score": torch.tensor(0.1)}}, "hyper_parameters": {"lr": 0.1}},
        "pytorch-lightning_version, loops, callbacks, hyper_parameters",
    ),
    "lightning with halves": (
        {"state_dict": {**under("generator."), **under("discriminator.", OTHER), **under("criterion.", OTHER)}},
        "criterion.*, discriminator.*",
    ),
    "deepspeed": (
        {"module": collections.OrderedDict(STATE), "buffer_names": [], "optimizer": None, "lr_scheduler": None,
         "param_shapes": [{"enc_p.emb.weight": torch.Size([2, 3])}], "dp_world_size": 1, "global_steps": 3,
         "ds_config": {"zero": 1}, "ds_version": "0.15", "sparse_tensor_module_names": set()},
        "buffer_names, optimizer, lr_scheduler",
    ),
    "DDP": (under("module."), ""),
    "DDP, compiled": (under("module._orig_mod."), ""),
    "compiled, DDP, wrapped": (under("_orig_mod.module.model."), ""),
    "wrapped twice": (under("model.model."), ""),
    "a compiled part": ({key.replace("enc_p.", "enc_p._orig_mod."): value for key, value in STATE.items()}, ""),
    "FSDP": ({key.replace(".", "._fsdp_wrapped_module.", 1): value for key, value in STATE.items()}, ""),
    "both halves": ({"generator": STATE, "discriminator": OTHER, "optimizer_g": OPTIMISER}, "discriminator"),
    "both halves as prefixes": ({**under("generator."), **under("discriminator.", OTHER)}, "discriminator.*"),
    "halves with DDP": ({"net_g": under("module."), "net_d": under("module.", OTHER)}, "net_d"),
    "an average beside": ({"model": STATE, "ema": under("", {k: v + 1 for k, v in STATE.items()})}, "ema"),
    "an average as prefix": ({**under("model."), **under("model_ema.", OTHER)}, "model_ema.*"),
    "an average under plain keys": ({**STATE, **under("ema.", OTHER)}, "ema.*"),
    "an average alone": ({"ema_state_dict": STATE}, "an average over the training"),
    "an average alone as prefix": (under("ema_model."), "an average over the training"),
    "its own name": ({"generator": {"model": STATE}, "epoch": 1}, "epoch"),
    "an unknown name that fits": ({"weights_of_speaker": STATE, "about": {"a": OTHER}}, "about"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_weights_are_taken_out_and_the_rest_is_named(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, named = FILES[name]
    path = tmp_path / "G_1.pth"
    torch.save(content, path)
    with caplog.at_level(logging.WARNING):
        found = read_state(path, network=GENERATOR)
        read_state(path, network=GENERATOR)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)) and (named in " ".join(said) if named else not said), said


REFUSED: dict[str, tuple[Any, str]] = {
    "text among the weights": ({**STATE, "config": "large"}, "key config is a str, expected a tensor"),
    "a list among the weights": ({**STATE, "names": ["a"]}, "key names is a list, expected a tensor"),
    "numbers alone": ({"epoch": 3, "step": 4}, r"it holds epoch \(int\), step \(int\); expected a state_dict"),
    "the other half": ({"discriminator": OTHER}, r"has no weights that fit: it holds discriminator \(dict\)"),
    "two of them": ({"model": STATE, "state_dict": OTHER}, "under model, state_dict, and it is not clear which"),
    "a list": ([STATE], "holds a list; expected a state_dict"),
    "nothing": ({}, "it holds nothing"),
    "one key twice": ({**STATE, **under("module.")}, "two keys that differ only in the names of wrappers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_in_the_way_is_named(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    torch.save(content, tmp_path / "G_1.pth")
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / "G_1.pth", network=GENERATOR)


def test_keys_that_begin_with_a_wrappers_name_are_kept_where_they_are_the_networks_own() -> None:
    state = {"model.language_model.x": torch.zeros(1), "lm_heads.0.weight": torch.zeros(1)}
    lm, path = sought(LM), Path("a.bin")
    assert unwrap.unwrap(state, path, lm).keys() == state.keys()
    assert unwrap.unwrap(under("module.", state), path, lm).keys() == state.keys()
    assert unwrap.unwrap(under("model.", state), path, lm).keys() == state.keys()
    del state["lm_heads.0.weight"]
    assert unwrap.unwrap(state, path, lm).keys() == state.keys()
    assert unwrap.unwrap(under("model.", state), path, lm).keys() == state.keys()


def test_the_first_parts_of_keys_are_those_of_the_networks() -> None:
    """The roots decide what is a prefix; a network with another first part would be taken apart wrongly."""
    from support import moss_helpers
    from support.bert_vits2.tiny import tiny_generator

    for name, roots in STATES.items():
        own = {key.split(".")[0] for v in ("v1", "v2", "v3") for key in tiny_state(name, v)}
        assert own == set(roots.split())
    assert {key.split(".")[0] for key in tiny_generator().state_dict()} == GENERATOR.roots - {"ref_enc"}
    for name, roots in (("codec_24k", CODEC), ("codec_32k", CODEC), ("lm", LM)):
        assert {key.split(".")[0] for key in moss_helpers.manifest(name)} == set(roots.split()) - {"codec_model"}


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_every_network_of_cosyvoice_is_found_among_others(version: str, tmp_path: Path) -> None:
    states = {name: tiny_state(name, version) for name in STATES}
    for name in STATES:
        torch.save({**under("module.", states[name]), "epoch": 1}, tmp_path / f"{name}.pt")
        assert load_state(tmp_path, name).keys() == states[name].keys()
    torch.save(states, tmp_path / "llm.pt")
    assert load_state(tmp_path, "llm").keys() == states["llm"].keys()


def test_halves_are_widened_and_kept_as_they_are_on_request(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        torch.save({"model": {key: value.to(dtype) for key, value in STATE.items()}}, tmp_path / "a.pt")
        assert {value.dtype for value in read_state(tmp_path / "a.pt").values()} == {torch.float32}
        assert {value.dtype for value in read_state(tmp_path / "a.pt", widen=False).values()} == {dtype}


def test_safetensors_in_place_of_torchs_format_and_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, safe = tmp_path / "flow.pt", tmp_path / "flow.safetensors"
    save_file(under("module."), safe)
    assert read_state(path, network=GENERATOR).keys() == STATE.keys()
    torch.save({"model": STATE}, path)
    assert read_state(path, network=GENERATOR).keys() == STATE.keys()
    assert "flow.safetensors beside it hold the same weights" in caplog.text
    save_file(STATE | {"flow.x": torch.ones(1)}, safe)
    with pytest.raises(CheckpointError, match=r"flow.pt and flow.safetensors beside it hold different .*: flow.x diff"):
        read_state(path, network=GENERATOR)
    save_file({key: STATE[key] for key in list(STATE)[:2]}, safe)
    with pytest.raises(CheckpointError, match=r"different weights: only one has flow\.x; keep one"):
        read_state(path, network=GENERATOR)


def test_without_a_description_only_wrappers_are_taken_off() -> None:
    state = {"model.x": torch.zeros(1), "discriminator.x": torch.zeros(1)}
    assert unwrap.unwrap(under("module.", state), Path("a"), Sought()).keys() == state.keys()
