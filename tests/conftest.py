"""Checkpoints the tests run on: the tiny v2 one whose numbers are known, written once per session."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for helpers shared by test files, such as golden_weights

from golden_weights import BACKBONE, GOLDEN, tiny_state


@pytest.fixture(scope="session")
def tiny_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint of the v1 layout, which has no backbone but a vocabulary file of Whisper's."""
    from front_helpers import write_whisper_vocabulary

    directory = write_networks(tmp_path_factory.mktemp("checkpoints") / "tiny_v1", 1)
    write_whisper_vocabulary(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official-layout directory with the tiny weights (read-only by agreement; copy it to change it)."""
    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny_v2", 2)


@pytest.fixture(scope="session")
def tiny_v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the v3 layout."""
    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny_v3", 3)


def write_tiny(directory: Path, version: int) -> Path:
    """The directory, filled with a tiny checkpoint of a version that has a Qwen2 backbone."""
    (directory / "CosyVoice-BlankEN").mkdir(parents=True)
    write_byte_tokenizer(directory / "CosyVoice-BlankEN")
    return write_networks(directory, version)


def write_networks(directory: Path, version: int) -> Path:
    """The directory, filled with all that a tiny checkpoint has but its text tokenizer."""
    import torch

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


def write_byte_tokenizer(directory: Path) -> None:
    """A tokenizer of Qwen2's size and special ids that knows only bytes: every other entry is unreachable filler."""
    from tokenizers import pre_tokenizers

    entries = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries += [f"\u2400{index}" for index in range(len(entries), 151643)]
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = {
        str(151643 + index): {"content": token, "special": True}
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
    for name, content in (("vocab", vocabulary), ("tokenizer_config", config), ("config", BACKBONE)):
        (directory / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
