"""A checkpoint's identity is made of every file that the family reads and of no other, in every family."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.opened_files import opened_files

from tritone.build.hashes import Hashes
from tritone.build.identity import checkpoint_hash, voices_hash
from tritone.calls import FilesRead
from tritone.catalog import open_family
from tritone.checkpoint.onnx_data import data_files
from tritone.engines.onnx import open_session
from tritone.export import build_engines
from tritone.stage import Family

DOCUMENTS = ("README.txt", "train.log", "notes.json", "old_llm.pt", "logs/events.out", "asset/sample.yaml")


def write_onnx(path: Path, **tensor: Any) -> None:
    """Write a network of one constant, which lies in a data file if `location` is given."""
    values = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [64, 64])
    graph, opset = onnx.helper.make_graph([node], "g", [], [output], [values]), onnx.helper.make_opsetid("", 17)
    graph, opset = onnx.helper.make_graph([node], "g", [], [output], [values]), onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset])
    onnx.save(model, str(path), save_as_external_data=bool(tensor), size_threshold=0, **tensor)


def write_bert(folder: Path) -> None:
    """Write a BERT encoder of one layer for Chinese, as transformers saves it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    sizes = {"vocab_size": 8, "hidden_size": 1024, "intermediate_size": 8, "num_hidden_layers": 2}
    BertModel(BertConfig(**sizes, num_attention_heads=2, max_position_embeddings=16)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "你", "好", "。"]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def cosyvoice(version: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from support.front_helpers import write_whisper_vocabulary
        from support.tiny_checkpoints import write_networks, write_tiny

        (write_networks if version == 1 else write_tiny)(folder, version)
        if version == 1:
            write_whisper_vocabulary(folder)
        write_onnx(folder / f"speech_tokenizer_v{version}.onnx", location="weights.bin")
        return folder

    return write


def bert_vits2(folder: Path) -> Path:
    from support.bert_vits2.folder import write_tiny

    home = write_tiny(folder / "Data" / "anna" / "models")
    (home / "config.json").rename(home.parent / "config.json")
    torch.save({}, home / "G_100.pth")
    write_bert(folder / "elsewhere")
    (folder / "bert").mkdir()
    (folder / "bert" / "ZH").symlink_to("../elsewhere")
    return folder


def moss(sharded: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from support.moss_helpers import write_checkpoint

        write_checkpoint(folder, 1)
        if sharded:
            state = load_file(folder / "model.safetensors")
            keys, (first, second) = sorted(state), (f"model-0000{part}-of-00002.safetensors" for part in (1, 2))
            save_file({key: state[key] for key in keys[:5]}, folder / first)
            save_file({key: state[key] for key in keys[5:]}, folder / second)
            table = {key: first if key in keys[:5] else second for key in keys}
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
            (folder / "model.safetensors").unlink()
            codec = folder / "codec"
            codec.mkdir()
            held = torch.load(folder / "xy_tokenizer.ckpt", weights_only=True)["generator"]
            save_file({key: value.contiguous() for key, value in held.items()}, codec / "model.safetensors")
            (folder / "xy_tokenizer.ckpt").unlink()
        return folder

    return write


RARE = {"added_tokens.json", "tokenizer_config.json", "vocab.txt"}
"""Files that are read only where another one is missing, or has not what they have."""
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "cosyvoice1": cosyvoice(1),
    "cosyvoice2": cosyvoice(2),
    "cosyvoice3": cosyvoice(3),
    "bert_vits2": bert_vits2,
    "moss_ttsd": moss(False),
    "moss_ttsd in parts": moss(True),
}


def use(family: Family, folder: Path) -> None:
    """Read all that the family reads lazily: every network, the language model, tokenizers and encoders."""
    for stage in family.stages:
        if stage.build is not None:
            stage.build()
    for stage in family.stages:
        if stage.build is None and (folder / stage.file).is_file():
            open_session(folder / stage.file)
    if family.causal_lm is not None:
        family.causal_lm.build()
    request: dict[str, Any] = {"target_text": np.array([["[S1]你好。".encode()]], object)}
    request["language"] = np.array([[b"ZH"]], object)
    known = {tensor.name for tensor in family.hosts[0].inputs}

    def no_call(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the text has been read")

    given = {name: value for name, value in request.items() if name in known}
    try:
        family.hosts[0].run(no_call, None, [given])  # type: ignore[arg-type]
    except RuntimeError:
        return


@pytest.mark.parametrize("name", FAMILIES)
def test_every_file_that_is_read_is_part_of_the_identity_and_no_other(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    FAMILIES[name](folder)
    for document in DOCUMENTS:
        (folder / document).parent.mkdir(exist_ok=True)
        (folder / document).write_text("{}")
    with opened_files(folder) as opened:
        family = open_family(folder)
        use(family, folder)
    assert family.files is not None
    files, voices = map(set, family.files())
    renamed = {path.replace("elsewhere/", "bert/ZH/") for path in opened}
    assert renamed - voices <= files, f"read, and not part of the identity: {renamed - voices - files}"
    unread = files - renamed
    assert {Path(path).name for path in unread} <= RARE, f"part of the identity, and not read: {unread}"
    assert not files & {*DOCUMENTS, *voices}

    named = tuple(files)
    fixed = replace(family, files=lambda: FilesRead(named, tuple(voices)))  # a damaged index could not be read again
    before = checkpoint_hash(fixed, folder, Hashes())
    registry = voices_hash(family, folder, Hashes())
    for path in files:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert checkpoint_hash(fixed, folder, Hashes()) != before, path
        (folder / path).write_bytes(content)
    for document in (*DOCUMENTS, *voices):
        (folder / document).write_bytes(b"changed")
    assert set(family.files().answers) == files and checkpoint_hash(fixed, folder, Hashes()) == before
    assert (voices_hash(fixed, folder, Hashes()) == registry) == (not voices)


def test_build_tells_that_a_codec_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights of MOSS-TTSD's codec have names without a suffix that says so."""
    folder = moss(False)(_made(tmp_path / "moss"))
    arguments = [str(folder), "--out", str(tmp_path / "build"), "--quick", "--stage", "codec_vocoder"]
    assert build_engines.main(arguments) == 0
    capsys.readouterr()
    assert build_engines.main(arguments) == 0 and "is up to date" in capsys.readouterr().out
    state = torch.load(folder / "xy_tokenizer.ckpt", weights_only=True)
    held = state["generator"]
    state["generator"] = {key: value * 1.5 if value.is_floating_point() else value for key, value in held.items()}
    torch.save(state, folder / "xy_tokenizer.ckpt")
    assert build_engines.main([*arguments, "--dry-run"]) == 0
    assert "onnx/codec_vocoder.onnx was built from another checkpoint" in capsys.readouterr().out


def test_data_files_of_onnx_are_found_in_nested_graphs(tmp_path: Path) -> None:
    write_onnx(tmp_path / "a.onnx")
    assert data_files(tmp_path / "a.onnx") == []
    write_onnx(tmp_path / "b.onnx", location="b.onnx.data")
    assert data_files(tmp_path / "b.onnx") == ["b.onnx.data"]
    outer = onnx.load(str(tmp_path / "a.onnx"), load_external_data=False)
    inner = onnx.load(str(tmp_path / "b.onnx"), load_external_data=False)
    node = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner.graph, else_branch=outer.graph)
    outer.graph.node.append(node)
    (tmp_path / "c.onnx").write_bytes(outer.SerializeToString())
    assert data_files(tmp_path / "c.onnx") == ["b.onnx.data"]
    for content in (b"", b"\xff" * 40, outer.SerializeToString()[:-9]):
        (tmp_path / "d.onnx").write_bytes(content)
        assert data_files(tmp_path / "d.onnx") == []


def test_links_count_by_what_they_lead_to(tmp_path: Path) -> None:
    folder = cosyvoice(2)(_made(tmp_path / "voice"))
    family = open_family(folder)
    before = checkpoint_hash(family, folder, Hashes())
    shutil.move(folder / "flow.pt", tmp_path / "blob")
    os.symlink(tmp_path / "blob", folder / "flow.pt")
    assert checkpoint_hash(family, folder, Hashes()) == before
    (tmp_path / "blob").write_bytes(b"other")
    assert checkpoint_hash(family, folder, Hashes()) != before


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
