"""A checkpoint of the official sizes and layout with random weights, for measuring the cost of real ones.

Text is tokenized by a byte tokenizer of Qwen2's or Whisper's size. The two networks that process a recording are
nano's, because the published files are ready-made and no configuration describes them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import (
    BACKBONE,
    SPEAKER_EMBEDDER,
    SPEAKERS,
    SPEECH_TOKENIZER,
    write_checkpoint,
)
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.published import PUBLISHED
from tritone.text.whisper_tokenizer import MERGEABLE, VOCABULARY

if TYPE_CHECKING:
    from torch import nn

NANO = Path(__file__).resolve().parents[2] / "checkpoints" / "nano"
TEXT = "The birch canoe slid on the smooth planks."
QWEN2_TOKENS = 151643
QWEN2: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
"""The backbone's `config.json` of v2 and v3."""


def random_checkpoint(directory: Path, version: int, seconds: float) -> Path:
    """Write a checkpoint of v1, v2 or v3 into the directory and return it.

    Args:
        seconds: of speech for `TEXT`. Random weights never end the speech on their own, so the YAML sets a text's
            shortest and longest speech to the same length.
    """
    import torch

    if version not in PUBLISHED:
        raise CheckpointError(f"unknown version {version}; the versions are {', '.join(map(str, PUBLISHED))}")
    torch.manual_seed(0)
    config = with_length(PUBLISHED[version], seconds)
    directory.mkdir(parents=True, exist_ok=True)
    for name, build in networks(config).items():
        write_checkpoint(directory, config, {name: build().state_dict()})
    if config.version.files:
        write_byte_tokenizer(directory / BACKBONE)
        (directory / BACKBONE / "config.json").write_text(json.dumps(QWEN2))
    else:
        write_whisper_tokens(directory)
    torch.save({"random": {"embedding": torch.randn(1, 192)}}, directory / SPEAKERS)
    shutil.copyfile(NANO / SPEAKER_EMBEDDER, directory / SPEAKER_EMBEDDER)
    shutil.copyfile(NANO / SPEECH_TOKENIZER, directory / config.version.speech_tokenizer)
    return directory


def with_length(config: CosyVoiceConfig, seconds: float) -> CosyVoiceConfig:
    """Return the configuration that gives `TEXT` that length of speech, and other texts in proportion to their
    bytes.
    """
    ratio = seconds * config.flow.token_frame_rate / len(TEXT.encode())
    lm = dataclasses.replace(config.lm, min_token_text_ratio=ratio, max_token_text_ratio=ratio)
    return dataclasses.replace(config, lm=lm)


def networks(config: CosyVoiceConfig) -> dict[str, Callable[[], nn.Module]]:
    """Return a builder of each network with random weights; call one at a time, together they take gigabytes."""
    from tritone.families.cosyvoice.vocoder.hift import Hift

    return {
        "llm": lambda: config.version.lm_network(config.lm, QWEN2),
        "flow": lambda: config.version.flow_network(config.flow),
        "hift": lambda: Hift(config.hift),
    }


def write_byte_tokenizer(directory: Path) -> None:
    """Write a byte tokenizer of Qwen2's size and special ids; every other entry is unreachable filler."""
    from tokenizers import pre_tokenizers

    directory.mkdir(parents=True, exist_ok=True)
    entries = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries += [f"\u2400{index}" for index in range(len(entries), QWEN2_TOKENS)]
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = {
        str(QWEN2_TOKENS + index): {"content": token, "special": True}
        | dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
        for index, token in enumerate(special)
    }
    config = {
        "added_tokens_decoder": added,
        "additional_special_tokens": list(special[1:]),
        "eos_token": special[0],
        "pad_token": special[0],
        "tokenizer_class": "Qwen2Tokenizer",
    }
    vocabulary = {token: index for index, token in enumerate(entries)}
    for name, content in (("vocab", vocabulary), ("tokenizer_config", config)):
        (directory / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def write_whisper_tokens(directory: Path) -> None:
    """Write a vocabulary file of Whisper's size: the bytes, then tokens with a first byte that UTF-8 text never has."""
    entries = [bytes([index]) for index in range(256)]
    entries += [b"\xff" + index.to_bytes(3, "big") for index in range(256, MERGEABLE)]
    lines = (f"{base64.b64encode(token).decode()} {index}\n" for index, token in enumerate(entries))
    (directory / VOCABULARY).write_text("".join(lines))
