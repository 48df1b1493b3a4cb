"""The tiny MOSS-TTSD networks behind the golden numbers."""

from __future__ import annotations

import functools
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from support.golden_weights import GOLDEN
from support.key_weights import key_state
from tritone.checkpoint.weights import load_strict
from tritone.engines.torch import TorchCall, torch_call
from tritone.families.moss_ttsd.codec.config import CodecConfig, read_codec_config
from tritone.families.moss_ttsd.codec.network import XYTokenizer
from tritone.families.moss_ttsd.codec.stages import codec_stages
from tritone.families.moss_ttsd.dialogue import SPEAKERS, prompt_text
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, read_lm_config
from tritone.families.moss_ttsd.lm.network import AsteroidLM
from tritone.families.moss_ttsd.lm.stages import lm_stage

FOLDER = GOLDEN / "moss_ttsd"
CODEC_YAML = FOLDER / "xytok_tiny.yaml"


def numbers(name: str) -> dict[str, np.ndarray]:
    """Return arrays of one golden file."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def manifest(name: str) -> dict[str, list[int]]:
    """Return shapes by key of a released file: "codec_24k", "codec_32k" or "lm"."""
    with gzip.open(FOLDER / "manifests.json.gz", "rt") as file:
        shapes: dict[str, list[int]] = json.load(file)[name]
    return shapes


@functools.cache
def tiny_codec_config() -> CodecConfig:
    return read_codec_config(Path(CODEC_YAML))


def tiny_codec() -> XYTokenizer:
    """Return a new one each time: stages fold its weights."""
    codec = XYTokenizer(tiny_codec_config())
    load_strict(codec, key_state(codec.state_dict()), "the rule")
    return codec.eval()


@functools.cache
def tiny_codec_call() -> TorchCall:
    return torch_call(codec_stages(tiny_codec_config(), tiny_codec))


def described() -> dict[str, Any]:
    """Return the language models' configurations ("config".

    "tiny", "released"), sampling "layers" and "normalized" texts.
    """
    found: dict[str, Any] = json.loads((FOLDER / "moss.json").read_text(encoding="utf-8"))
    return found


def lm_config(which: str, folder: Path) -> AsteroidConfig:
    """Return the configuration read from a `config.json` written to `folder`."""
    (folder / "config.json").write_text(json.dumps(described()["config"][which]))
    return read_lm_config(folder)


def tiny_lm(config: AsteroidConfig, attention: str = "eager") -> AsteroidLM:
    lm = AsteroidLM(config, attention).eval()
    load_strict(lm, _lm_state(config), "the rule")
    return lm


@functools.cache
def _lm_state(config: AsteroidConfig) -> dict[str, Tensor]:
    return key_state(AsteroidLM(config).state_dict())


def tiny_lm_call(config: AsteroidConfig) -> TorchCall:
    return torch_call([lm_stage(config, lambda: tiny_lm(config))])


def write_checkpoint(folder: Path, layers: int = 2) -> Path:
    """Return a whole tiny checkpoint that can be served: its language model says random speech until it is stopped."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    config = lm_config("tiny", folder)
    (folder / "config.json").write_text(
        json.dumps(described()["config"]["tiny"] | {"num_hidden_layers": layers, "model_type": "moss_ttsd"})
    )
    state = key_state(AsteroidLM(read_lm_config(folder)).state_dict())
    first, last = config.speech_tokens
    table = state["model.embedding_list.0.weight"]
    table[:first] *= 0.01
    table[last:] = 0
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    sampling = {"do_samples": [True] * 8, "layers": described()["layers"], "max_length": 2000}
    (folder / "generation_config.json").write_text(json.dumps(sampling))
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*SPEAKERS.values(), *re.findall(r"<\|\w+\|>", prompt_text(""))])
    tokenizer.save(str(folder / "tokenizer.json"))
    text = CODEC_YAML.read_text().replace("codebook_size: 64", "codebook_size: 1024")
    yaml = folder / "xy_tokenizer_32k_config.yaml"
    yaml.write_text(text)
    codec = XYTokenizer(read_codec_config(yaml))
    torch.save({"generator": key_state(codec.state_dict())}, folder / "xy_tokenizer.ckpt")
    return folder
