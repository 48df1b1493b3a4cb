"""A YAML that contradicts itself is refused with the keys and values at fault, and a rate does not choose a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.golden_weights import GOLDEN

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.published import PUBLISHED, V1, V2
from tritone.families.cosyvoice.versions import VERSIONS
from tritone.families.cosyvoice.vocoder.source import InterpolatedSource, RunningSource, SteppedSource, harmonic_source


def official(version: int) -> str:
    return (GOLDEN / f"cosyvoice_v{version}" / VERSIONS[version].yaml).read_text()


def read(text: str, version: int) -> CosyVoiceConfig:
    return parse_yaml(text, Path("x.yaml"), version)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_sample_rate_that_the_networks_do_not_have_is_refused(version: int) -> None:
    rate = PUBLISHED[version].sample_rate
    text = official(version).replace("!ref <sample_rate>", str(rate))
    edited = text.replace(f"\nsample_rate: {rate}", "\nsample_rate: 16000")
    assert edited != text and read(text, version).sample_rate == rate
    message = (
        rf"x\.yaml contradicts itself about the sample rate: sample_rate is 16000, hift\.sampling_rate is {rate}, "
        rf"feat_extractor\.sampling_rate is {rate}; all must be equal\. Restore the values"
    )
    with pytest.raises(CheckpointError, match=message):
        read(edited, version)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "hop_size: 480",
            "hop_size: 240",
            r"samples per mel frame: feat_extractor\.hop_size is 240, hift \(upsample_rates times .*\) is 480",
        ),
        ("upsample_rates: [8, 5, 3]", "upsample_rates: [8, 5, 2]", r"hop_size is 480, .*hop_len\) is 320"),
        ("num_mels: 80", "num_mels: 100", r"number of mel bands: feat_extractor\.num_mels is 100, flow\.output_size"),
        (
            "    vocab_size: 6561",
            "    vocab_size: 4096",
            r"llm\.speech_token_size is 6561, flow\.vocab_size is 40",
        ),
        (
            "token_mel_ratio: 2",
            "token_mel_ratio: 4",
            r"25 x token_mel_ratio 4 x hop_size 480 are 48000 samples a second, but sample_rate is 24000",
        ),
    ],
)
def test_sizes_that_disagree_are_named(old: str, new: str, message: str) -> None:
    text = official(2)
    assert old in text
    with pytest.raises(CheckpointError, match=message):
        read(text.replace(old, new), 2)


def test_all_rates_of_a_version_may_change_together() -> None:
    config = read(official(1).replace("sample_rate: 22050", "sample_rate: 24000"), 1)
    assert (config.sample_rate, config.hift.sample_rate, config.mel.sample_rate) == (24000, 24000, 24000)
    assert config.flow.frames(50) == int(24000 / 256)
    assert isinstance(harmonic_source(config.hift, 0), RunningSource)


@pytest.mark.parametrize(("version", "kind"), [(1, RunningSource), (2, InterpolatedSource), (3, SteppedSource)])
@pytest.mark.parametrize("rate", [16000, 22050, 24000])
def test_the_version_chooses_the_excitation_whatever_the_rate(version: int, kind: type, rate: int) -> None:
    assert isinstance(harmonic_source(replace(PUBLISHED[version].hift, sample_rate=rate), 0), kind)


def test_a_source_is_fed_in_pieces() -> None:
    f0 = np.full(6, 110, np.float32)
    for config in (V1.hift, V2.hift, PUBLISHED[3].hift):
        whole, cut = harmonic_source(config, 3), harmonic_source(config, 3)
        expected = np.concatenate([whole.push(f0), whole.finish()], axis=1)
        found = np.concatenate([cut.push(f0[:2]), cut.push(f0[2:]), cut.finish()], axis=1)
        assert expected.shape == (config.nb_harmonics + 1, 6 * config.hop)
        np.testing.assert_array_equal(found, expected)
