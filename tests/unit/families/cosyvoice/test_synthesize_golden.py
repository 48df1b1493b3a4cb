"""From a request's inputs to mel as published, in every mode: the same ids under the same draws, the same mel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.front_helpers import CASES, hearing, prompt, published, recorded
from support.golden_weights import golden

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.lm.silence import without_long_silence
from tritone.families.cosyvoice.lm.v2.session import TorchSession
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.families.cosyvoice.speak.modes import ModeInputs
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.speak.tokens import conditioning
from tritone.families.cosyvoice.speak.whole import render, vocode
from tritone.families.cosyvoice.voices.reference import reference_voice
from tritone.lm.description import StageLm
from tritone.lm.logits import LogitsLm
from tritone.lm.protocols import SpeechLm
from tritone.lm.sampling import tokens
from tritone.stage import Call

SEED = 1234
Version = tuple[CosyVoiceConfig, TextFrontend, Call, SpeechLm]


@pytest.fixture(scope="module")
def versions(request: pytest.FixtureRequest) -> Callable[[int], Version]:
    """A version's networks, opened once; loading weights draws random numbers, so all is loaded here."""
    opened: dict[int, Version] = {}

    def version(number: int) -> Version:
        if number not in opened:
            folder = request.getfixturevalue(f"tiny_v{number}")
            model = family(folder)
            call = torch_call(model.stages)
            for stage in model.stages:
                if stage.build:
                    call.module(stage.name)
            if isinstance(model.lm, StageLm):
                llm = model.lm.open(call)
            else:
                assert model.causal_lm
                llm = llm_of(model.causal_lm.build())
            opened[number] = load_config(folder), TextFrontend(folder), call, llm
        return opened[number]

    return version


def llm_of(network: object) -> SpeechLm:
    return LogitsLm(lambda _: TorchSession(network))


def multinomial(probabilities: np.ndarray) -> int:
    """Return a draw from the stream of random numbers that the published code uses."""
    return int(torch.multinomial(torch.from_numpy(probabilities), 1, replacement=True))


def normal(frames: int) -> np.ndarray:
    return torch.randn(1, 80, frames).numpy()


def sampled(inputs: ModeInputs, config: CosyVoiceConfig, llm: SpeechLm) -> list[int]:
    """Return Ids of the one segment, or the source's of voice conversion."""
    if not inputs.segments:
        return inputs.source.tolist()
    voice, text = inputs.voice, inputs.segments[0]
    # In v3 published speech may end before the minimum length, which is a slip; here it is reproduced.
    lm = replace(config.lm, published_minimum=True) if config.version.number == 3 else config.lm
    ids = vocabulary(lm).prompt([*voice.prompt_ids.tolist(), *text], voice.llm_speech_token.tolist())
    session = llm.session(conditioning(voice, config))
    return list(without_long_silence(tokens(session, ids, len(text), lm, multinomial), config.version.silent_tokens))


@pytest.mark.parametrize(("number", "name"), CASES)
def test_every_mode_gives_the_published_ids_and_mel(versions: Callable[[int], Version], number: int, name: str) -> None:
    config, front, call, llm = versions(number)
    want = golden(f"e2e_{name}", f"v{number}")
    reference = reference_voice(hearing(recorded(number)["llm_prompt_speech_token"]), *prompt(), config)
    inputs = published(number, name, front, reference)
    torch.manual_seed(SEED)
    speech = sampled(inputs, config, llm)
    assert speech == want["flow_token"][0].tolist()
    # v1's noise continues the stream that the sampling drew from; the others' is a table.
    draws = [normal] if number == 1 else None
    (mel,) = render(call, config, [(speech, inputs.voice)], draws=draws)
    assert mel.shape == want["flow_mel"].shape
    assert np.abs(mel - want["flow_mel"]).max() <= 1e-3
    if "wav" in want:  # of v3, whose vocoder's noise is a table too
        # Of the published mel: over seconds, phase tells two mels apart that differ by rounding.
        (wave,) = vocode(call, config.hift, [want["flow_mel"]], [0])
        assert wave.shape == want["wav"][0].shape
        assert np.abs(wave - want["wav"][0]).max() <= 1e-3 * np.abs(want["wav"]).max()
