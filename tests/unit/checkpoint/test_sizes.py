"""Sizes that no network has are refused by the name of their setting, in every kind of checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.golden_weights import GOLDEN

from tritone.catalog import open_family
from tritone.checkpoint.sizes import WIDTH, Bound, check_fields, check_transformer, finite, whole
from tritone.checkpoint.weights import built
from tritone.errors import CheckpointError, ConfigError
from tritone.families.bert_vits2.config import parse_config
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml

WRONG = [10**9, 10**400, -1, 0, 2.5, True, "eight", None, [], float("inf")]


@pytest.mark.parametrize("value", WRONG)
def test_a_size_is_a_whole_number_within_its_bound(value: Any) -> None:
    assert whole(32768, "width", WIDTH) == 32768
    with pytest.raises(ConfigError, match=r"width is .*; expected a whole number from 1 to 32768"):
        whole(value, "width", WIDTH)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e13, True, "1", None, 10**400])
def test_a_number_is_finite(value: Any) -> None:
    assert finite(2, "rate") == 2.0
    with pytest.raises(CheckpointError, match=r"rate is .*; expected a finite number of at most 1e\+12"):
        finite(value, "rate", CheckpointError)


def test_all_numbers_of_a_dataclass_are_checked() -> None:
    inner = dataclasses.make_dataclass("Inner", ["layers", "rates", "share"])
    outer = dataclasses.make_dataclass("Outer", ["part", "text"])
    bounds, names = {"layers": Bound(1, 4)}, {"part.layers": "net.num_layers"}

    def check(layers: Any = 4, rates: Any = (1, 2), share: Any = 0.5) -> None:
        check_fields(outer(inner(layers, rates, share), "x"), bounds, names, "a.yaml", ConfigError)

    check()
    for change, message in (
        ({"layers": 5}, r"a\.yaml: net\.num_layers is 5; expected a whole number from 1 to 4"),
        ({"rates": (1, (2, 10**9))}, r"a\.yaml: part\.rates is 1000000000; expected a whole number from 1 to 32768"),
        ({"rates": (1,) * 65}, r"a\.yaml: part\.rates has 65 entries; at most 64 are allowed"),
        ({"share": float("nan")}, r"a\.yaml: part\.share is nan; expected a finite number"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**9}, r"c\.json: hidden_size is 1000000000; expected a whole number from 1 to 32768"),
        ({"num_hidden_layers": 10**6}, r"c\.json: num_hidden_layers is 1000000; .* from 1 to 256"),
        ({"num_attention_heads": 0}, r"c\.json: num_attention_heads is 0"),
        ({"vocab_size": "many"}, r"c\.json: vocab_size is 'many'"),
        ({"num_attention_heads": 3}, "hidden_size is 64, which is no multiple of num_attention_heads, 3"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 4, which is no multiple of num_key_value_heads, 3"),
    ],
)
def test_sizes_of_transformers(change: dict[str, Any], message: str) -> None:
    usual = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e6}
    check_transformer(usual, "c.json")
    with pytest.raises(CheckpointError, match=message):
        check_transformer(usual | change, "c.json", CheckpointError)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("value", ["1000000000", "-5", "0", "2.5", "true", "eight", "[]", ".inf"])
def test_wrong_sizes_in_official_yaml_are_named(version: int, value: str) -> None:
    name = f"cosyvoice{version if version > 1 else ''}.yaml"
    text = (GOLDEN / f"cosyvoice_v{version}" / name).read_text()
    lines = text.splitlines()
    at = next(index for index, line in enumerate(lines) if line.strip().startswith("base_channels:"))
    lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    with pytest.raises(CheckpointError, match=r"x\.yaml: (hift\.)?base_channels is .*; expected"):
        parse_yaml("\n".join(lines), Path("x.yaml"), version)


@pytest.mark.parametrize("rates", ["[]", "[8, true]", "[8, a]", "[8, -5]", "[[8], [5]]", "[8, 1000000]"])
def test_wrong_lists_in_official_yaml_are_named(rates: str) -> None:
    text = (GOLDEN / "cosyvoice_v2" / "cosyvoice2.yaml").read_text()
    lines = [f"{line.partition(':')[0]}: {rates}" if "upsample_rates:" in line else line for line in text.splitlines()]
    with pytest.raises(CheckpointError, match=r"x\.yaml: (hift\.)?upsample_rates is .*; expected"):
        parse_yaml("\n".join(lines), Path("x.yaml"), 2)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"hidden_channels": 10**9}, r"model: hidden_channels is 1000000000; .* from 1 to 32768"),
        ("model", {"n_layers": 10**6}, r"model: n_layers is 1000000; .* from 1 to 256"),
        ("model", {"n_heads": 0}, r"model: n_heads is 0; .* from 1 to 512"),
        ("model", {"upsample_rates": []}, r"model\.upsample_rates is \(\); expected a list with entries like 8"),
        ("model", {"upsample_rates": [8, True]}, "expected a list with entries like 8"),
        ("model", {"resblock_dilation_sizes": [[1, "a"]]}, "expected lists of whole numbers"),
        ("data", {"sampling_rate": 0}, "data: sampling_rate is 0; .* from 1000 to 384000"),
        ("data", {"mel_fmin": float("nan")}, "data: mel_fmin is nan; expected a finite number"),
        ("data", {"spk2id": {"a": "first"}}, "data.spk2id: the row of 'a' is 'first'; expected a whole number from 0"),
    ],
)
def test_wrong_sizes_of_bert_vits2(section: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({section: change})


def test_what_is_no_model_in_another_way_is_said_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tritone.families.bert_vits2 import family

    (tmp_path / "config.json").write_text(json.dumps({"model": {}, "data": {}}))

    def describe(_folder: Path) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(family, "family", describe)
    with pytest.raises(CheckpointError, match=r"describe no model \(ZeroDivisionError: division by zero\); restore"):
        open_family(tmp_path)


def linear(inputs: int, outputs: int) -> Callable[[], torch.nn.Module]:
    return lambda: torch.nn.Linear(inputs, outputs)


def test_a_network_is_compared_with_its_file_before_it_takes_memory() -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    assert torch.equal(built(linear(2, 3), state, "a.pt").state_dict()["weight"], state["weight"])
    with pytest.raises(CheckpointError, match=r"a\.pt does not fit its configuration: 2 wrong shapes: weight"):
        built(linear(1 << 24, 3 << 20), state, "a.pt")  # 200 terabytes
    with pytest.raises(CheckpointError, match=r"missing keys: 1\.weight"):
        built(lambda: torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(1 << 20, 1 << 20)),
              {f"0.{key}": value for key, value in state.items()}, "a.pt")  # fmt: skip
    with pytest.raises(CheckpointError, match=r"a\.pt: no network can be made of the checkpoint's settings: "):
        built(lambda: torch.nn.Conv1d(3, 3, 1, groups=2), state, "a.pt")
