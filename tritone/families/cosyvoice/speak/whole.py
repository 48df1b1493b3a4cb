"""Whole utterances: speech tokens to mel to waveform, on lists of rows that go through the networks in padded batches.

What a row gives does not depend on the rows beside it. The ensemble's host steps run these functions on requests, the
tests against the published numbers on one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig, HiftConfig
from tritone.families.cosyvoice.flow import cfm
from tritone.families.cosyvoice.flow.grid import estimator_chunk
from tritone.families.cosyvoice.flow.inputs import Sizes, encoder_inputs, frame_count, starting_noise
from tritone.families.cosyvoice.flow.noise import Draw
from tritone.families.cosyvoice.vocoder.source import harmonics
from tritone.families.cosyvoice.vocoder.stages import FRAMES
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.request.batch import pad, stack
from tritone.stage import Call

LEAST = FRAMES.lo
"""The fewest frames that the estimators and the vocoder take; what is shorter is padded, which changes nothing."""


class Tokens(NamedTuple):
    """One row of the flow encoder's batch.

    Args:
        speech: the speech tokens to synthesise, int64 `[tokens]`.
        prompt: the speech tokens of the voice's prompt, int64 `[prompt_tokens]`.
        embedding: the speaker, float32 `[192]`.
        prompt_frames: mel frames of the prompt, which only v1 needs here.
    """

    speech: np.ndarray
    prompt: np.ndarray
    embedding: np.ndarray
    prompt_frames: int

    @property
    def sizes(self) -> Sizes:
        """The row's lengths."""
        return Sizes(len(self.prompt), self.prompt_frames, len(self.speech))


class Features(NamedTuple):
    """One row of the flow encoder's outputs: `mu` `[1, 80, frames]` of prompt and speech, `spks` `[1, 80]`."""

    mu: np.ndarray
    spks: np.ndarray


def tokens_of(speech: Sequence[int] | np.ndarray, voice: Voice) -> Tokens:
    """Return the row of these speech tokens in that voice."""
    return Tokens(np.asarray(speech, np.int64), voice.speech_token, voice.embedding, len(voice.mel))


def encode(call: Call, config: CosyVoiceConfig, rows: Sequence[Tokens], streaming_mask: bool = False) -> list[Features]:
    """Return the features of each row's prompt and speech, under full attention or the streaming mask."""
    sequences = [np.concatenate([row.prompt, row.speech])[None] for row in rows]
    sizes = [row.sizes for row in rows]
    encoded = call(
        "flow_encoder",
        speech_token=stack(sequences),
        speech_token_len=np.array([sequence.shape[1] for sequence in sequences], np.int32),
        embedding=np.stack([row.embedding for row in rows]),
        **encoder_inputs(config, sizes, streaming_mask),
    )
    frames = [frame_count(config, size) for size in sizes]
    return [
        Features(encoded["mu"][index : index + 1, :, :count], encoded["spks"][index : index + 1])
        for index, count in enumerate(frames)
    ]


def decode(
    call: Call,
    config: CosyVoiceConfig,
    rows: Sequence[Features],
    prompts: Sequence[np.ndarray],
    noise: Sequence[np.ndarray],
    streaming_mask: bool = False,
) -> list[np.ndarray]:
    """Return the mel `[1, 80, frames]` of each row's speech, without its prompt.

    Args:
        prompts: the mel of each row's prompt, `[1, 80, prompt_frames]`.
        noise: the noise from which each row starts, `[1, 80, frames]` for prompt and speech.
    """
    frames = [row.mu.shape[2] for row in rows]
    longest = max(LEAST, *frames)
    mel = cfm.solve(
        call,
        stack([row.mu for row in rows], LEAST),
        np.concatenate([row.spks for row in rows]),
        pad(stack(list(prompts)), longest),
        (np.arange(longest) < np.array(frames)[:, None]).astype(np.float32)[:, None],
        stack(list(noise), LEAST),
        chunk_size=estimator_chunk(config, streaming_mask),
        steps=config.flow.steps,
        cfg_rate=config.flow.cfg_rate,
    )
    known = [prompt.shape[2] for prompt in prompts]
    return [mel[index : index + 1, :, known[index] : count] for index, count in enumerate(frames)]


def render(
    call: Call,
    config: CosyVoiceConfig,
    rows: Sequence[tuple[Sequence[int], Voice]],
    streaming_mask: bool = False,
    draws: Sequence[Draw] | None = None,
) -> list[np.ndarray]:
    """Return the mel `[1, 80, frames]` of each row's speech tokens in its voice, in one pass.

    Args:
        draws: the noise of each row; by default that of seed 0.
    """
    features = encode(call, config, [tokens_of(speech, voice) for speech, voice in rows], streaming_mask)
    draws = draws or [starting_noise(config, 0) for _ in rows]
    noise = [draw(row.mu.shape[2]) for draw, row in zip(draws, features, strict=True)]
    return decode(call, config, features, [prompt_mel(voice) for _, voice in rows], noise, streaming_mask)


def prompt_mel(voice: Voice) -> np.ndarray:
    """Return the mel of the voice's prompt as the networks take it, `[1, 80, prompt_frames]`."""
    return np.ascontiguousarray(voice.mel.T)[None]


def vocode(call: Call, config: HiftConfig, mels: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
    """Return the waveform `[samples]` of each mel `[1, 80, frames]`; the seeds decide the noise of the excitation."""
    frames = np.array([mel.shape[2] for mel in mels], np.int32)
    mel = stack(list(mels), LEAST)
    f0 = call("f0_predictor", mel=mel, mel_len=frames)["f0"]
    sources = [
        harmonics(f0[index, :count], config, seed)[None]
        for index, (count, seed) in enumerate(zip(frames, seeds, strict=True))
    ]
    waves = call("vocoder", mel=mel, mel_len=frames, harmonics=stack(sources, LEAST * config.hop))["waveform"]
    return [waves[index, : count * config.hop] for index, count in enumerate(frames)]
