"""Shared by the front-end tests: recorded inputs and outputs, a vocabulary file, and networks for recordings."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from support.golden_weights import GOLDEN
from tritone.audio.wav import read_samples
from tritone.engines.onnx import open_session
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.published import V1, V2, V3
from tritone.families.cosyvoice.speak.modes import MODES, ModeInputs, find_mode, mode_inputs
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.versions import VERSIONS
from tritone.families.cosyvoice.voices.voice import Voice

CONFIGS: dict[int, CosyVoiceConfig] = {1: V1, 2: V2, 3: V3}


SYSTEM = VERSIONS[3].system_prompt
TEXT, TRANSCRIPT = "Hello there.", "I am a prompt text, ok."
LEAD = SYSTEM + END_OF_PROMPT
CASES = [(v, name) for v in (1, 2, 3) for name in VERSIONS[v].modes]
"""Every mode of every version."""


def recorded(version: int) -> dict[str, np.ndarray]:
    """Return inputs of the networks in each mode, as the published front end made them of the texts below and
    `prompt()`.
    """
    with np.load(GOLDEN / f"cosyvoice_v{version}" / "front.npz") as arrays:
        return dict(arrays)


def prompt() -> tuple[np.ndarray, int]:
    """Return the recording behind them: 2 s at 24 kHz."""
    return read_samples(GOLDEN / "prompt.wav")


def write_whisper_vocabulary(directory: Path) -> Path:
    """Return a vocabulary file of the real size: the published ranks of all bytes and of whatever the tests' texts
    need.

    The other ids belong to tokens that begin with a byte no UTF-8 text has.
    """
    ranks: dict[int, bytes] = {}
    for line in (GOLDEN / "cosyvoice_v1" / "whisper_ranks.tiktoken").read_text().splitlines():
        token, rank = line.split()
        ranks[int(rank)] = base64.b64decode(token)
    entries = [ranks.get(rank, b"\xff" + rank.to_bytes(3, "big")) for rank in range(50257)]
    path = directory / "multilingual.tiktoken"
    path.write_text("".join(f"{base64.b64encode(token).decode() or '='} {i}\n" for i, token in enumerate(entries)))
    return path


def hearing(tokens: np.ndarray) -> Callable[..., dict[str, Any]]:
    """Return a Call with the real speaker embedding network and a speech tokenizer that answers with `tokens`."""
    session = open_session(GOLDEN / "cosyvoice_v2" / "campplus.onnx")

    def call(stage_name: str, **arrays: np.ndarray) -> dict[str, Any]:
        if stage_name == "speaker_embedding":
            return {"output": session.run(None, {session.get_inputs()[0].name: arrays["input"]})[0]}
        assert stage_name == "speech_tokenizer"
        assert arrays["feats"].shape == (1, 128, int(arrays["feats_length"][0]))
        return {"indices": tokens.reshape(1, -1).astype(np.int32)}

    return call


def published(version: int, name: str, front: TextFrontend, voice: Voice) -> ModeInputs:
    """Return the request that was recorded: v3's texts begin with the prompt its callers must write."""
    speaker = Voice("spk_a", recorded(version)["spk_a"][0])
    lead = LEAD if version == 3 else ""
    instruct = "A calm speaker." if version == 1 else f"{SYSTEM} Speak softly."
    return mode_inputs(
        find_mode(name, VERSIONS[version]),
        front,
        speaker if "speaker" in MODES[name].needs else voice,
        text=(lead if name in ("cross_lingual", "sft") else "") + TEXT,
        transcript=(lead + TRANSCRIPT) if name == "zero_shot" else "",
        instruct_text=instruct + END_OF_PROMPT if "instruct" in name else "",
        source=recorded(version)["vc_source"][0] if name == "vc" else None,
    )


def text(words: str) -> np.ndarray:
    """Return a BYTES input of a request."""
    return np.array([[words.encode()]], dtype=object)


def recording(samples: int, field: str = "reference_wav") -> dict[str, np.ndarray]:
    """Return a recording of 16 kHz as the published client sends it."""
    time = np.arange(samples, dtype=np.float32) / 16000
    wav = (0.3 * np.sin(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 3 * time)))[None].astype(np.float32)
    return {field: wav, f"{field}_len": np.array([[samples]], np.int32)}
