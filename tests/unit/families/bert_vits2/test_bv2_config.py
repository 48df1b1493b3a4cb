"""Configurations are read whole or refused with what is wrong and what is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.bert_vits2.tiny import FOLDER

from tritone.errors import ConfigError
from tritone.families.bert_vits2.config import BertVits2Config, parse_config, read_config


def test_a_published_file_is_read_whole() -> None:
    config = read_config(FOLDER / "config_full.json")
    assert config == BertVits2Config(train=config.train)
    assert config.train["segment_size"] == 16384 and config.data.spec_channels == 1025
    assert config.model.resblock_dilation_sizes == ((1, 3, 5),) * 3


def test_every_key_a_published_file_may_have_is_known() -> None:
    config = parse_config(
        {
            "version": "2.0.1",
            "train": {"anything": [1, 2]},
            "data": {
                "training_files": "a.txt",
                "validation_files": "b.txt",
                "max_wav_value": 32768.0,
                "mel_fmax": 8000,
                "add_blank": True,
                "cleaned_text": True,
                "n_speakers": 2,
                "spk2id": {"a": 0, "b": 1},
            },
            "model": {"slm": {"model": "wavlm", "sr": 16000}, "gin_channels": 256, "p_dropout": 0},
        }
    )
    assert (config.version, config.train["anything"], config.data.spk2id["b"]) == ("2.0", [1, 2], 1)
    assert (config.data.mel_fmax, config.model.slm["sr"], config.model.p_dropout) == (8000.0, 16000, 0.0)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], r"expected an object with model, data and train, found list"),
        ({"models": {}}, r"the configuration has unknown keys: models; the known keys are data, model, train, version"),
        ({"model": {"hiden": 1, "x": 2}}, r"model has unknown keys: hiden, x; the known keys are .*hidden_channels"),
        ({"data": {"hop": 1}}, r"data has unknown keys: hop; the known keys are .*hop_length"),
        ({"data": []}, r"data is \[\]; expected an object"),
        ({"train": 3}, r"train is 3; expected an object"),
        ({"model": {"n_layers": 6.5}}, r"model.n_layers is 6.5; expected int"),
        ({"model": {"n_layers": True}}, r"model.n_layers is True; expected int"),
        ({"model": {"use_sdp": 1}}, r"model.use_sdp is 1; expected bool"),
        ({"model": {"upsample_rates": 8}}, r"model.upsample_rates is 8; expected list"),
        ({"model": {"slm": "wavlm"}}, r"model.slm is 'wavlm'; expected object"),
        ({"data": {"mel_fmax": "null"}}, r"data.mel_fmax is 'null'; expected a number or null"),
        ({"version": "2.4"}, r"version '2.4' is not supported; 2.0, 2.1, 2.2, 2.3 are. 2.4 is the Extra line"),
        ({"version": "1.1"}, r"version '1.1' is not supported; 2.0, 2.1, 2.2, 2.3 are.$"),
        ({"data": {"hop_length": 256}}, r"upsample_rates multiply to 512, but data.hop_length is 256"),
        ({"model": {"upsample_kernel_sizes": [16, 16, 8, 2]}}, r"5 upsample_rates, 4 upsample_kernel_sizes"),
        ({"model": {"upsample_kernel_sizes": [16, 16, 8, 2, 3]}}, r"must exceed upsample_rates .* by even numbers"),
        ({"model": {"resblock_kernel_sizes": [3]}}, r"1 resblock_kernel_sizes, 3 resblock_dilation_sizes"),
        ({"model": {"resblock": "2"}}, r"model.resblock is '2'"),
        ({"model": {"upsample_initial_channel": 40}}, r"upsample_initial_channel 40 cannot be halved"),
        ({"model": {"n_heads": 5}}, r"hidden_channels 192 is not a multiple of n_heads 5"),
        ({"model": {"inter_channels": 191}}, r"inter_channels 191 cannot be halved"),
        ({"model": {"n_layers": 2}}, r"n_layers is 2 and n_layers_trans_flow 4, but the speaker is added before"),
        ({"model": {"n_layers_trans_flow": 1}}, r"n_layers_trans_flow 1"),
        ({"model": {"gin_channels": 0}}, r"use_spk_conditioned_encoder false or gin_channels 0"),
        ({"model": {"use_spk_conditioned_encoder": False}}, r"use_spk_conditioned_encoder false or gin_channels 0"),
        ({"model": {"flow_share_parameter": True}}, r"flow_share_parameter true; the published code crashes"),
        ({"model": {"use_mel_posterior_encoder": True}}, r"use_mel_posterior_encoder true"),
        ({"data": {"win_length": 4096}}, r"win_length 4096 is longer than filter_length 2048"),
        ({"data": {"mel_fmax": 30000.0}}, r"mel_fmax 30000.0 are not a range below 22050.0 Hz"),
        ({"data": {"n_speakers": 2, "spk2id": {"a": 0, "b": 2}}}, r"spk2id goes up to 2, but n_speakers is 2"),
    ],
)
def test_what_cannot_be_is_refused(document: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(document)


def test_a_flow_without_transformer_needs_no_third_layer() -> None:
    assert parse_config({"model": {"n_layers_trans_flow": 1, "use_transformer_flow": False}})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=r"config.json does not exist; .* needs its config.json"):
        read_config(path)
    path.write_text('{"model": ')
    with pytest.raises(ConfigError, match=r"config.json is not valid JSON"):
        read_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"config.json is not text in UTF-8"):
        read_config(path)
    path.write_text(json.dumps({"model": {"x": 1}}))
    with pytest.raises(ConfigError, match=r"config.json: model has unknown keys: x"):
        read_config(path)
