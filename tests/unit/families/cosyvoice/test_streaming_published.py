"""The switch that follows the published chunk schedule of v2 and v3, against the published numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.golden_weights import golden
from support.stream_helpers import Opened, opened, random_speech, random_voice, recorded_voice

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.flow.published_stream import PublishedStream
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.whole import render


class Silent:
    """Stands in for the stream with state: two frames of silence for each token."""

    def push(self, tokens: list[int]) -> Iterator[np.ndarray]:
        yield np.zeros((1, 80, 2 * len(tokens) - 6 * (self.pushed == 0)), np.float32)
        self.pushed += len(tokens)

    pushed = 0


@pytest.fixture(scope="module", params=[2, 3])
def tiny(request: pytest.FixtureRequest) -> Opened:
    return opened(request.getfixturevalue(f"tiny_v{request.param}"))


def test_published_streams_reproduce_the_published_mel(tiny: Opened) -> None:
    known = golden("stream", f"v{tiny.config.version.number}")
    config = tiny.configured(published_stream=True)
    stream = Synthesizer(tiny.call, tiny.stages, config).mel_stream(recorded_voice(known), seed=0)
    found = [*stream.push(known["token"][0].tolist()), *stream.finish()]
    first = known["mel_0"].shape[2]  # what is recorded of the last chunk begins with the frames before it
    wanted = [known["mel_0"], known["mel_1"][:, :, first:]]
    assert [mel.shape for mel in found] == [mel.shape for mel in wanted]
    for mel, published in zip(found, wanted, strict=True):
        assert np.abs(mel - published).max() < 1e-4 * np.abs(published).max()


@pytest.mark.parametrize(
    ("prompt", "tokens", "chunks"),
    [
        (30, 500, [45, 50, 100, 100, 100, 100, 5]),
        (25, 79, [25, 50, 4]),
        (0, 78, [25, 50, 3]),
        (0, 77, [25, 52]),
        (3, 20, [20]),
        (3, 0, []),
    ],
)
def test_chunks_double_up_to_a_hundred_tokens(tiny: Opened, prompt: int, tokens: int, chunks: list[int]) -> None:
    config = tiny.configured(published_stream=True, steps=1)
    voice, speech = random_voice(prompt), random_speech(tokens)
    stream = Synthesizer(tiny.call, tiny.stages, config).mel_stream(voice, seed=0)
    found = [*stream.push(speech), *stream.finish()]
    assert [mel.shape[2] for mel in found] == [2 * count for count in chunks]
    if len(chunks) < 3:
        return
    # Under the mask without a bound but for the last, which sees everything: another mask, another sound.
    masked, full = (render(tiny.call, config, [(speech, voice)], mask)[0] for mask in (True, False))
    last = 2 * chunks[-1]
    for mel, wanted in ((np.concatenate(found[:-1], axis=2), masked[:, :, :-last]), (found[-1], full[:, :, -last:])):
        assert np.abs(mel - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert np.abs(masked - full)[:, :, -last:].max() > 1e-2


def test_speech_that_the_last_chunk_cannot_see_at_once_is_refused_by_name(tiny: Opened) -> None:
    """At the first token too many, before any work on it; what fits is not refused."""
    config, voice = tiny.configured(published_stream=True), random_voice(25)
    stream = PublishedStream(
        Silent(), config, voice, lambda speech: np.zeros((1, 80, 2 * len(speech)), np.float32), 300
    )
    assert sum(mel.shape[2] for mel in [*stream.push(random_speech(300)), *stream.finish()]) == 600
    wanted = r"target_text: speaks longer than 12 s in one segment, which is the limit with flow.published_stream"
    with pytest.raises(InvalidRequest, match=wanted):
        list(stream.push([5]))
    # The limit is what the networks declare, less the prompt.
    synthesizer = Synthesizer(tiny.call, tiny.stages, config)
    long = synthesizer.mel_stream(voice, seed=0)
    assert long._most == 1500 - 25


def test_the_waveform_of_v3_is_the_published_one(tiny: Opened) -> None:
    """v2's published vocoder draws its noise from the global generator, so that there is nothing to compare.

    f0 is float32 here and float64 there, and phase integrates the difference: hence more than 1e-4.
    """
    known = golden("stream", f"v{tiny.config.version.number}")
    config, voice = tiny.configured(published_stream=True), recorded_voice(known)
    tokens = known["token"][0].tolist()
    chunks = Synthesizer(tiny.call, tiny.stages, config).waveform(tokens, voice, seed=1)
    found = np.concatenate(list(chunks))
    assert len(found) == 480 * 2 * len(tokens)
    if tiny.config.version.number == 3:
        assert np.abs(found[::7] - known["wave"]).max() < 1e-3 * np.abs(known["wave"]).max()
