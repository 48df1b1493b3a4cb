"""A voice's prompt is computed once, and every stream goes on from it as if it had computed it itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.front_helpers import hearing, recorded, recording
from support.stream_helpers import Opened, opened, random_speech, random_voice

from tritone.errors import ConfigError
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.flow import prompt_states
from tritone.families.cosyvoice.flow.prompt_states import MEGABYTES, FlowState, PromptStates
from tritone.families.cosyvoice.flow.stream import FlowStream
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.voices.cache import Recent
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Arrays

PROMPT = 60


@pytest.fixture(scope="module", params=[2, 3])
def tiny(request: pytest.FixtureRequest) -> Opened:
    opened_once = opened(request.getfixturevalue(f"tiny_v{request.param}"))
    return opened_once._replace(config=opened_once.configured(steps=2, stream_left_chunks=1))


class Counted:
    """The call of a checkpoint, with how often the estimator ran."""

    def __init__(self, tiny: Opened) -> None:
        self._call, self.steps = tiny.call, 0

    def __call__(self, name: str, **arrays: np.ndarray) -> Arrays:
        self.steps += name == "flow_estimator_chunk"
        return self._call(name, **arrays)


def mels(tiny: Opened, voice: Voice, prompts: PromptStates | None, speech: list[int]) -> Iterator[np.ndarray]:
    stream = FlowStream(tiny.call, tiny.stages, tiny.config, voice, 25, prompts)
    yield from stream.push(speech)
    yield from stream.finish()


def test_the_second_request_of_a_voice_computes_none_of_its_prompt(tiny: Opened) -> None:
    call, prompts, voice = Counted(tiny), PromptStates(), random_voice(PROMPT)
    taken, waves = [], []
    for speaker, kept in (
        (voice, prompts),
        (replace(voice, name="copied", mel=voice.mel.copy()), prompts),
        (voice, None),
    ):
        before = call.steps
        synthesizer = Synthesizer(call, tiny.stages, tiny.config, kept)
        chunks = synthesizer.waveform(random_speech(70), speaker, seed=1)
        waves.append(np.concatenate(list(chunks)))
        taken.append(call.steps - before)
    # Of 130 tokens in chunks of 25, two lie in the prompt with all their lookahead.
    assert taken == [2 * 6, 2 * 4, 2 * 6] and len(prompts) == 1
    for wave in waves[:2]:
        np.testing.assert_array_equal(wave, waves[2])


def test_two_interleaved_voices_never_mix(tiny: Opened) -> None:
    voices = [random_voice(PROMPT, seed) for seed in (4, 5)]
    # The same prompt tokens, as of one transcript: only the sound differs.
    voices[1] = replace(voices[1], name=voices[0].name, speech_token=voices[0].speech_token)
    speech, prompts = random_speech(110), PromptStates()
    alone = [list(mels(tiny, voice, None, speech)) for voice in voices]
    assert np.abs(alone[0][-1] - alone[1][-1]).max() > 1e-2
    for _ in range(2):
        together: list[list[np.ndarray]] = [[], []]
        for pair in zip(*(mels(tiny, voice, prompts, speech) for voice in voices), strict=True):
            for chunks, chunk in zip(together, pair, strict=True):
                chunks.append(chunk)
        for found, wanted in zip(together, alone, strict=True):
            np.testing.assert_array_equal(np.concatenate(found, axis=2), np.concatenate(wanted, axis=2))
    assert len(prompts) == 2


def test_streams_in_threads_share_one_prompt(tiny: Opened) -> None:
    prompts, voice, speech = PromptStates(), random_voice(PROMPT), random_speech(60)
    wanted = np.concatenate(list(mels(tiny, voice, None, speech)), axis=2)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(lambda: list(mels(tiny, voice, prompts, speech))) for _ in range(4)]
    for job in jobs:
        np.testing.assert_array_equal(np.concatenate(job.result(), axis=2), wanted)


def test_everything_a_state_depends_on_is_in_its_key(tiny: Opened) -> None:
    prompts, voice, base = PromptStates(), random_voice(PROMPT), tiny.config
    empty = FlowState({}, [], [], 0)
    changed = voice.mel.copy()
    changed[7, 7] += 1e-6
    token = voice.speech_token.copy()
    token[3] += 1
    cases = [
        (voice, base, 25),
        (voice, base, 50),
        (replace(voice, mel=changed), base, 25),
        (replace(voice, speech_token=token), base, 25),
        (replace(voice, embedding=voice.embedding + 1), base, 25),
        *(
            (voice, replace(base, flow=replace(base.flow, **setting)), 25)
            for setting in ({"steps": 5}, {"cfg_rate": 0.5}, {"stream_left_chunks": -1})
        ),
    ]
    for number, case in enumerate(cases, 1):
        prompts.get(*case, lambda: empty)
        assert len(prompts) == number
    prompts.get(replace(voice, name="another name"), base, 25, lambda: pytest.fail("made twice"))


def test_states_are_bounded_by_their_memory(tiny: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(number: int) -> FlowState:
        return FlowState({"state": np.zeros(number, np.uint8)}, [{"state": np.zeros(1, np.uint8)}], [], 0)

    def held(prompts: PromptStates, *sizes: int) -> tuple[int, int]:
        for seed, size in enumerate(sizes):
            prompts.get(random_voice(2, seed), tiny.config, 25, lambda size=size: state(size))
            assert prompts.total_bytes <= prompts.limit
        return len(prompts), prompts.total_bytes

    assert held(PromptStates(100), 30, 30, 30) == (3, 3 * 31)
    assert held(PromptStates(100), 30, 30, 80) == (1, 81)
    assert held(PromptStates(100), 30, 30, 100) == (2, 62)  # which is too large alone, and drives no other out
    monkeypatch.setenv(MEGABYTES, "0")
    assert held(PromptStates(), 30) == (0, 0)


def test_the_states_of_a_family_tell_how_many_they_are_and_their_bytes(tiny_v2: Path) -> None:
    kept = family(tiny_v2).kept
    assert kept is not None and kept() == (0, 0)


@pytest.mark.parametrize(("memory", "megabytes"), [(100 << 30, 4096), (8 << 30, 819)])
def test_by_default_a_tenth_of_the_memory_is_enough(
    memory: int, megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MEGABYTES, raising=False)
    monkeypatch.setattr(prompt_states, "total", lambda: memory)
    assert PromptStates().limit // (1 << 20) == megabytes
    monkeypatch.setenv(MEGABYTES, " 5000 ")
    assert PromptStates().limit == 5000 << 20, "who asks for more gets it"


@pytest.mark.parametrize("value", ["much", "-1", "1.5", "4G", "²"])
def test_a_size_that_is_none_is_refused_in_a_sentence(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEGABYTES, value)
    asked = f"{MEGABYTES} is {value!r}; it is a whole number of megabytes, and 0 keeps no voice's state; leave it unset"
    with pytest.raises(ConfigError, match=f"^{re.escape(asked)}"):
        PromptStates()


def test_who_waited_for_a_cancelled_request_makes_it_itself() -> None:
    recent: Recent[int] = Recent(4)
    with ThreadPoolExecutor(1) as pool:
        second = []

        def broken() -> int:
            second.append(pool.submit(recent.get, b"key", lambda: 7))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            recent.get(b"key", broken)
        assert second[0].result(5) == 7


def test_a_voice_without_a_prompt_takes_no_place(tiny: Opened) -> None:
    prompts = PromptStates()
    list(mels(tiny, random_voice(0), prompts, random_speech(30)))
    assert len(prompts) == 0


def test_a_request_with_a_recording_heard_before_starts_behind_its_prompt(tiny_v2: Path) -> None:
    model = family(tiny_v2)
    networks, ears = opened(tiny_v2).call, hearing(recorded(2)["llm_prompt_speech_token"])
    steps: list[int] = []

    def call(name: str, **arrays: np.ndarray) -> Arrays:
        steps[-1] += name == "flow_estimator_chunk"
        return (ears if name in ("speech_tokenizer", "speaker_embedding") else networks)(name, **arrays)

    waves = []
    for level in (1.0, 1.0, 0.5):  # half as loud is another recording
        steps.append(0)
        request = recording(32000) | recording(12000, "source_wav")
        request["reference_wav"] = np.float32(level) * request["reference_wav"]
        waves.append(np.concatenate(list(model.synthesize(call, None, request))))
    assert steps[1] == steps[0] - 10 == steps[2] - 10
    np.testing.assert_array_equal(waves[0], waves[1])
    assert np.abs(waves[2] - waves[0]).max() > 1e-3
