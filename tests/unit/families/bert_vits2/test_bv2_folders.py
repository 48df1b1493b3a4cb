"""Folders of Bert-VITS2 as people have them: where the files lie, and what other programs write into config.json."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.bert_vits2.folder import SPEAKERS, write_tiny

from tritone.catalog import open_family
from tritone.errors import CheckpointError, ConfigError
from tritone.families.bert_vits2.checkpoint import open_checkpoint
from tritone.families.bert_vits2.locate import config_file, generator_file


def edit(folder: Path, **changes: Any) -> Path:
    """Change keys of a folder's config.json, those of its data section by name."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    for key, value in changes.items():
        (document["data"] if key in document["data"] else document)[key] = value
    path.write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("generator", "config"),
    [
        ("models", ""),
        ("models", "configs"),
        ("models", "models"),
        ("Data/anna/models", "Data/anna"),
        ("Data/anna/models", "Data/anna/configs"),
        ("logs/anna", "logs/anna"),
        ("logs/anna", "configs"),
        ("logs", ""),
    ],
)
def test_files_are_found_where_published_training_puts_them(generator: str, config: str, tmp_path: Path) -> None:
    write_tiny(tmp_path / "made")
    for name, place in (("G_300.pth", generator), ("config.json", config)):
        (tmp_path / "a" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).rename(tmp_path / "a" / place / name)
    family = open_family(tmp_path / "a")
    assert family.settings["speakers"] == list(SPEAKERS)
    assert open_checkpoint(tmp_path / "a").generator == tmp_path / "a" / generator / "G_300.pth"
    assert family.files is not None
    places = ((generator, "G_300.pth"), (config, "config.json"))
    assert family.files().answers == tuple(sorted(Path(place, name).as_posix() for place, name in places))


def test_the_choice_among_several_is_said_and_several_places_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_tiny(tmp_path / "a")
    for name in ("G_0.pth", "G_1200.pth", "D_5000.pth", "DUR_5000.pth"):
        (folder / name).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert generator_file(folder).name == "G_1200.pth"
    assert "G_1200.pth is used, the newest by number; there are also G_0.pth, G_300.pth" in caplog.text
    for name in ("anna", "ben"):
        (tmp_path / "b" / "Data" / name / "models").mkdir(parents=True)
        (tmp_path / "b" / "Data" / name / "models" / "G_0.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has generators in .*Data/anna/models, .*ben/models; give one of these"):
        generator_file(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "G_best.pth").write_bytes(b"")
    assert generator_file(tmp_path / "c").name == "G_best.pth"
    (tmp_path / "c" / "G_last.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has G_best\.pth, G_last\.pth, and none has a number to choose by"):
        generator_file(tmp_path / "c")


def test_a_generator_in_safetensors_is_read(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path)
    state = torch.load(folder / "G_300.pth", weights_only=True)["model"]
    save_file({key: value.contiguous().clone() for key, value in state.items()}, folder / "G_300.safetensors")
    (folder / "G_300.pth").unlink()
    assert open_checkpoint(folder).load().emb_g.weight.shape[0] == len(SPEAKERS)


def test_a_byte_order_mark_and_keys_of_other_programs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = edit(write_tiny(tmp_path), speakers=["a"], webui={"port": 1})
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())
    with caplog.at_level(logging.WARNING):
        open_family(folder)
    assert "config.json: keys of other programs are not read: speakers, webui" in caplog.text


@pytest.mark.parametrize(
    ("table", "speakers"),
    [
        ({"anna": "0", "ben": "4"}, ["anna", "ben"]),
        ({"ben": 4, "anna": 1}, ["anna", "ben"]),
        (["anna", "ben"], ["anna", "ben"]),
        ({}, ["0", "1", "2", "3", "4"]),
    ],
)
def test_tables_of_speakers(table: Any, speakers: list[str], tmp_path: Path) -> None:
    assert open_family(edit(write_tiny(tmp_path), spk2id=table)).settings["speakers"] == speakers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spk2id": {"anna": "first"}}, r"data\.spk2id: the row of 'anna' is 'first'; expected a whole number"),
        ({"spk2id": {"anna": "-1"}}, r"data\.spk2id: the row of 'anna' is '-1'"),
        ({"spk2id": {"anna": 1.5}}, r"data\.spk2id: the row of 'anna' is 1\.5"),
        ({"spk2id": {"anna": "7"}}, "spk2id goes up to 7, but n_speakers is 5"),
        ({"spk2id": "anna"}, r"data\.spk2id is 'anna'; expected object"),
    ],
)
def test_tables_that_mean_nothing_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        open_family(edit(write_tiny(tmp_path), **changes))


def test_more_speakers_than_the_weights_have_are_refused(tmp_path: Path) -> None:
    folder = edit(write_tiny(tmp_path), n_speakers=9)
    with pytest.raises(CheckpointError, match=r"wrong shapes: emb_g\.weight is \[5, 12\] instead of \[9, 12\]"):
        open_checkpoint(folder).load()


def test_without_a_configuration_the_usual_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "G_1.pth").write_bytes(b"")
    assert config_file(tmp_path, generator_file(tmp_path)) == tmp_path / "config.json"
