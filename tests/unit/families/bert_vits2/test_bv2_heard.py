"""Voices without a table of speakers take the speaker from the request's recording.

`heard.npz` was recorded once from the published reference encoder on a CPU in float32, with the weights of the other
golden numbers: 130 frames of noise and their speaker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2.emotional import config_of, generator_of, write
from support.bert_vits2.tiny import arrays, peak_error

from tritone.catalog import open_family
from tritone.engines.torch import torch_call
from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.stages import all_stages
from tritone.families.bert_vits2.voice import heard_speaker, linear_spectrogram
from tritone.families.bert_vits2.whole import heard
from tritone.load import Model, load_model
from tritone.nn.weight_norm import fold_weight_norm


def recording(seconds: float = 1.0, rate: int = 16000, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((1, round(seconds * rate)))
    return (0.1 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write(tmp_path_factory.mktemp("heard") / "tiny", config_of(n_speakers=0)))


def test_spectrogram_and_speaker_are_the_published_ones() -> None:
    config = config_of(n_speakers=0)
    generator = fold_weight_norm(generator_of(config))
    call, known = torch_call(all_stages(config, lambda: generator)), arrays("heard")
    spec = linear_spectrogram(known["wave"].numpy(), config.data)[None]
    assert spec.shape == (1, 65, 130)
    found = heard(call, [spec, spec[:, :, :90], spec])
    assert found.shape == (3, 12, 1)
    for row in (0, 2):
        assert peak_error(torch.from_numpy(found[row, :, 0]), known["g"][0]) <= 1e-5
    (alone,) = heard(call, [spec[:, :, :90]])
    assert peak_error(torch.from_numpy(found[1]), torch.from_numpy(alone)) <= 1e-5


def test_the_spectrogram_is_that_of_training() -> None:
    from training.bert_vits2.data.spectrogram_cache import linear_spectrogram as in_training

    data, wav = config_of().data, recording()[0]
    expected = in_training(Path("x.wav"), wav, data)
    assert peak_error(torch.from_numpy(linear_spectrogram(wav, data)), expected) <= 1e-5


def test_a_speaker_is_heard_in_whole_and_streamed_requests(model: Model) -> None:
    said = {}
    for name, seed in (("one", 0), ("other", 1)):
        wav = recording(seed=seed)
        whole = model.synthesize("Hello there.", reference_wav=wav)
        streamed = np.concatenate(list(model.stream("Hello there.", reference_wav=wav)))
        np.testing.assert_allclose(streamed, whole, atol=1e-5)
        said[name] = whole
    assert said["one"].shape != said["other"].shape or np.abs(said["one"] - said["other"]).max() > 1e-5
    padded = np.pad(recording(), ((0, 0), (0, 5000)))
    cut = model.synthesize("Hello there.", reference_wav=padded, reference_wav_len=16000)
    np.testing.assert_array_equal(cut, said["one"])
    assert model.speakers == () and model.family.settings["speaker_from"] == "recording"
    assert list(model.family.trial) == ["reference_wav"]
    assert model.synthesize("Hello there.", reference_wav=model.family.trial["reference_wav"]).size > 100


def test_a_recording_at_the_voices_own_rate_is_not_resampled() -> None:
    data, wav = config_of(n_speakers=0).data, recording(rate=44100)
    request = {"reference_wav": wav, "reference_rate": np.array([[44100]], np.int32)}
    np.testing.assert_array_equal(heard_speaker(request, data)[0], linear_spectrogram(wav[0], data))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "reference_wav: is missing; this voice takes its speaker from a recording: float32 samples at 16000 Hz"),
        ({"reference_wav": recording() * 0}, "reference_wav: is silent"),
        ({"reference_wav": recording() * np.float32(np.nan)}, "reference_wav: contains NaN"),
        ({"reference_wav": recording(0.2)}, "reference_wav: too short: 0.20 s at 16000 Hz"),
        ({"reference_wav": recording(31)}, "reference_wav: too long: 31.00 s"),
        ({"reference_wav": recording(), "reference_rate": 8000}, "reference_wav: is sampled at 8000 Hz; record it at"),
        ({"reference_wav": recording(), "reference_rate": 1 << 20}, "reference_rate: is 1048576 Hz; the highest"),
        ({"reference_wav": recording(), "reference_wav_len": 99999}, "reference_wav_len: must be one number"),
        ({"reference_wav": recording(), "speaker": "anna"}, "speaker: this voice has no table of speakers; send refer"),
    ],
)
def test_what_carries_no_voice_is_refused_by_both_entries(model: Model, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        model.synthesize("Hello there.", **fields)
    with pytest.raises(InvalidRequest, match=problem):
        next(model.stream("Hello there.", **fields))


def test_a_recording_for_a_voice_with_speakers_is_refused(tmp_path: Path) -> None:
    model = load_model(write(tmp_path / "tiny", config_of()))
    with pytest.raises(InvalidRequest, match="reference_wav: has no effect; this voice has a table of speakers; send"):
        model.synthesize("Hello there.", reference_wav=recording())


def test_the_reference_encoder_takes_the_place_of_the_table(tmp_path: Path) -> None:
    family = open_family(write(tmp_path / "tiny", config_of(n_speakers=0)))
    assert [stage.name for stage in family.stages] == ["ref_enc", "enc_p", "sdp", "dp", "flow", "dec"]
    (axis,) = [axis for axis in family.stage("ref_enc").axes if axis.name == "reference_frames"]
    assert (axis.lo, axis.hi) == (689, 41344) and family.hosts[0].uses == ("ref_enc", "enc_p")
