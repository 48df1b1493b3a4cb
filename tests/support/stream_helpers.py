"""Tiny checkpoints opened for tests of streams: configuration, networks on torch, declarations and a voice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tritone.engines.torch import TorchCall, torch_call
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Arrays, Stage


class Opened(NamedTuple):
    """One tiny checkpoint."""

    config: CosyVoiceConfig
    call: TorchCall
    stages: dict[str, Stage]

    def configured(self, **flow: int | float | bool) -> CosyVoiceConfig:
        """Return the configuration with other settings of its flow."""
        return replace(self.config, flow=replace(self.config.flow, **flow))


def opened(folder: Path) -> Opened:
    """Return the checkpoint in that folder."""
    model = family(folder)
    return Opened(load_config(folder), torch_call(model.stages), {stage.name: stage for stage in model.stages})


def recorded_voice(known: Arrays) -> Voice:
    """Return the voice of a golden file."""
    prompt = known["prompt_token"][0].astype(np.int64)
    return Voice("recorded", known["embedding"][0], speech_token=prompt, mel=known["prompt_feat"][0])


def random_voice(tokens: int, seed: int = 4) -> Voice:
    """Return a voice with a prompt of so many tokens."""
    rng = np.random.default_rng(seed)
    embedding, mel = rng.standard_normal(192), rng.standard_normal((2 * tokens, 80)) - 5
    return Voice(
        f"random {seed}",
        embedding.astype(np.float32),
        speech_token=rng.integers(0, 6561, tokens),
        mel=mel.astype(np.float32),
    )


def random_speech(tokens: int, seed: int = 3) -> list[int]:
    """Return the so many speech tokens of v2 and v3."""
    return np.random.default_rng(seed).integers(0, 6561, tokens).tolist()
