"""Writes the tiny CosyVoice checkpoints behind the golden numbers, in their official layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from benchmarks.cosyvoice.random_checkpoint import write_byte_tokenizer
from support.golden_weights import BACKBONE, GOLDEN, tiny_state
from tritone.families.cosyvoice.checkpoint.folder import load_config


def write_tiny(directory: Path, version: int) -> Path:
    """Return the directory, filled with a tiny checkpoint of a version that has a Qwen2 backbone."""
    write_byte_tokenizer(directory / "CosyVoice-BlankEN")
    (directory / "CosyVoice-BlankEN" / "config.json").write_text(json.dumps(BACKBONE))
    return write_networks(directory, version)


def write_networks(directory: Path, version: int) -> Path:
    """Return the directory, filled with all that a tiny checkpoint has but its text tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    yaml = f"cosyvoice{version if version > 1 else ''}.yaml"
    shutil.copyfile(GOLDEN / f"cosyvoice_v{version}" / yaml, directory / yaml)
    shutil.copyfile(GOLDEN / "cosyvoice_v2" / "campplus.onnx", directory / "campplus.onnx")
    for name in ("llm", "flow", "hift"):
        torch.save(tiny_state(name, f"v{version}"), directory / f"{name}.pt")
    rng = np.random.default_rng(0)
    voices = {name: {"embedding": torch.from_numpy(rng.standard_normal((1, 192), np.float32))} for name in ("a", "b")}
    torch.save(voices, directory / "spk2info.pt")
    return directory


def make_it_stop(directory: Path) -> None:
    """Let the language model of a random checkpoint end its speech: the score of its end varies four times as much."""
    end = load_config(directory).lm.end_id
    state = torch.load(directory / "llm.pt", weights_only=True)
    for name in ("llm_decoder.weight", "llm_decoder.bias"):
        if name in state:
            state[name][end] *= 4
    torch.save(state, directory / "llm.pt")


def write_speech_tokenizer(path: Path) -> None:
    """Write a tokenizer with the published inputs and outputs: every fourth frame's first feature, scaled to an id."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h

    nodes = [
        h.make_node("Slice", ["feats", "zeros", "ends", "axes", "steps"], ["picked"]),
        h.make_node("ReduceMean", ["picked", "channel"], ["mean"], keepdims=0),
        h.make_node("Sigmoid", ["mean"], ["unit"]),
        h.make_node("Mul", ["unit", "codes"], ["scaled"]),
        h.make_node("Cast", ["scaled"], ["indices"], to=T.INT32),
    ]
    constants = {"zeros": [0], "ends": [1 << 30], "axes": [2], "steps": [4], "channel": [1]}
    weights = [h.make_tensor(name, T.INT64, [1], value) for name, value in constants.items()]
    weights.append(h.make_tensor("codes", T.FLOAT, [], [60.0]))
    graph = h.make_graph(
        nodes,
        "tokenizer",
        [h.make_tensor_value_info("feats", T.FLOAT, [1, 128, "t"]), h.make_tensor_value_info("n", T.INT32, [1])],
        [h.make_tensor_value_info("indices", T.INT32, [1, "tokens"])],
        weights,
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=10), path)
