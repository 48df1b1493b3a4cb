"""The server speaks: both entries, both protocols, several requests at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from server.conftest import SENTENCE, text

from tritone.client.speech_client import SpeechClient
from tritone.supervisor.health import ready
from tritone.supervisor.service import Service

LENGTHS = ("Yes.", "A cup of tea, please.", SENTENCE)


def sound(waveform: np.ndarray) -> None:
    """Assert the properties of every waveform."""
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert waveform.size > 1000
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1


def test_server_and_every_model_are_ready(server: Service) -> None:
    assert ready(server.ports.http)
    models = ["cosyvoice2", "cosyvoice2_stream", "speech_tokenizer", "speaker_embedding"]
    assert [name for name in models if not ready(server.ports.http, model=name)] == []
    assert not ready(server.ports.http, model="no_such_model")
    assert not ready(server.ports.http, model="cosyvoice2_llm"), "an inner model is not served to clients"


def test_ensemble_over_grpc_and_http_give_the_same(speech: SpeechClient, speaker: str, server: Service) -> None:
    over_grpc = speech.synthesize(SENTENCE, speaker=speaker, seed=4).waveform
    with SpeechClient(f"127.0.0.1:{server.ports.http}", "http") as client:
        over_http = client.synthesize(SENTENCE, speaker=speaker, seed=4).waveform
    sound(over_grpc)
    np.testing.assert_array_equal(over_grpc, over_http)


def test_seed_decides_the_audio(speech: SpeechClient, speaker: str) -> None:
    first, again, other = (speech.synthesize(SENTENCE, speaker=speaker, seed=seed).waveform for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or np.abs(first - other).max() > 1e-3


def test_stream_comes_in_chunks(speech: SpeechClient, speaker: str) -> None:
    chunks = list(speech.stream(" ".join([SENTENCE] * 3), speaker=speaker, seed=4))
    assert len(chunks) > 1
    sound(np.concatenate(chunks))


def test_published_client_inputs_clone_a_voice(infer: Callable[..., Any]) -> None:
    seconds = np.arange(48000, dtype=np.float32) / 16000
    wav = (0.3 * np.sin(2 * np.pi * 150 * seconds) * (1 + np.sin(2 * np.pi * 3 * seconds)))[None].astype(np.float32)
    answer = infer(
        reference_wav=(wav, "FP32"),
        reference_wav_len=(np.array([[wav.shape[1]]], np.int32), "INT32"),
        reference_text=text("A word or two."),
        target_text=text(SENTENCE),
    )
    sound(answer.as_numpy("waveform")[0])


def test_two_voices_interleaved_equal_each_alone(speech: SpeechClient) -> None:
    voices = speech.speakers()[:2]
    assert len(voices) == 2
    alone = [np.concatenate(list(speech.stream(SENTENCE, speaker=voice, seed=5))) for voice in voices]
    streams = [speech.stream(SENTENCE, speaker=voice, seed=5) for voice in voices]
    parts: list[list[np.ndarray]] = [[], []]
    open_streams = {0, 1}
    while open_streams:
        for index in sorted(open_streams):
            chunk = next(streams[index], None)
            if chunk is None:
                open_streams.discard(index)
            else:
                parts[index].append(chunk)
    for own, wanted in zip(parts, alone, strict=True):
        np.testing.assert_allclose(np.concatenate(own), wanted, atol=1e-5)
    assert alone[0].shape != alone[1].shape or np.abs(alone[0] - alone[1]).max() > 1e-3


def test_a_ragged_batch_gives_what_each_request_gives_alone(speech: SpeechClient, speaker: str) -> None:
    alone = [speech.synthesize(line, speaker=speaker, seed=7).waveform for line in LENGTHS]
    with ThreadPoolExecutor(len(LENGTHS)) as pool:
        together = list(pool.map(lambda line: speech.synthesize(line, speaker=speaker, seed=7).waveform, LENGTHS))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speed_changes_the_duration(speech: SpeechClient, speaker: str, speed: float) -> None:
    usual = speech.synthesize(SENTENCE, speaker=speaker, seed=4).waveform
    changed = speech.synthesize(SENTENCE, speaker=speaker, seed=4, speed=speed).waveform
    assert changed.size == pytest.approx(usual.size / speed, abs=2000)
