"""The XY_Tokenizer: the published numbers, ragged batches, files of every layout and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.key_weights import published_key
from support.moss_helpers import CODEC_YAML, manifest, numbers, tiny_codec, tiny_codec_call, tiny_codec_config

from tritone.errors import CheckpointError, ConfigError
from tritone.families.moss_ttsd.codec.checkpoint import load_codec
from tritone.families.moss_ttsd.codec.config import codec_config, read_codec_config
from tritone.families.moss_ttsd.codec.network import Decoder, Encoder, Vocoder, XYTokenizer
from tritone.families.moss_ttsd.codec.stages import codec_stages
from tritone.nn.weight_norm import fold_weight_norm
from tritone.stage import Arrays


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return numbers("codec")


def near(found: torch.Tensor, wanted: np.ndarray, bound: float = 1e-5) -> None:
    assert tuple(found.shape) == wanted.shape
    assert float((found - torch.from_numpy(wanted)).abs().max()) <= bound * float(np.abs(wanted).max())


@torch.no_grad()
def test_encoder_stages_equal_published(golden: Arrays) -> None:
    codec, mel = tiny_codec(), torch.from_numpy(golden["mel"])
    hidden = torch.from_numpy(golden["mel_len"]) // 2
    semantic = codec.semantic_encoder(mel, hidden)
    near(semantic[:, :165].mT, golden["semantic"])
    semantic = codec.semantic_encoder_adapter(semantic, hidden)
    near(semantic[:, :165].mT, golden["adapter"])
    acoustic = codec.acoustic_encoder(mel, hidden)
    near(acoustic[:, :165].mT, golden["acoustic"])
    both = codec.pre_rvq_adapter(torch.cat([semantic, acoustic], -1), hidden)
    near(both[:, :165].mT, golden["pre_rvq"])
    down = codec.downsample(both)
    for row, codes in enumerate(golden["tok_lens"]):
        near(down[row, :codes].T, golden["down"][row, :, :codes])


@torch.no_grad()
def test_codes_are_the_published_ones(golden: Arrays) -> None:
    found = Encoder(tiny_codec())(torch.from_numpy(golden["mel"]), torch.from_numpy(golden["mel_len"]).int())
    for row, codes in enumerate(golden["tok_lens"]):
        assert np.array_equal(found[row, :, :codes], golden["tok_codes"][:, row, :codes])


@torch.no_grad()
def test_decoder_stages_equal_published(golden: Arrays) -> None:
    codec = tiny_codec()
    codes = torch.from_numpy(golden["codes"].astype(np.int64)).transpose(0, 1)
    lengths = torch.from_numpy(golden["codes_len"]).int()
    vectors = codec.post_rvq_adapter(codec.quantizer.decode(codes), lengths)
    frames = Decoder(codec)(codes, lengths)
    waveform = Vocoder(codec)(frames, 8 * lengths)
    assert waveform.shape == (2, 2560 * codes.shape[2])
    for row, length in enumerate(golden["codes_len"]):
        near(vectors[row, :length].T, golden["post_rvq"][row, :, :length])
        near(frames[row, :, : 8 * length], golden["frames"][row, :, : 8 * length])
        # The published batch lets what follows a shorter row into its end; ours stays silent and exact there.
        samples = 2560 * length - (0 if row == 0 else 8000)
        near(waveform[row, :samples:5], golden["every_fifth_sample"][row, : -(-samples // 5)])
        assert waveform[row, 2560 * length :].abs().sum() == 0


@torch.no_grad()
def test_a_ragged_batch_is_what_each_row_gives_alone(golden: Arrays) -> None:
    codec = fold_weight_norm(tiny_codec())
    codes, length = torch.from_numpy(golden["codes"].astype(np.int64)).transpose(0, 1), int(golden["codes_len"][1])
    together = Vocoder(codec)(Decoder(codec)(codes, torch.tensor([40, length])), 8 * torch.tensor([40, length]))
    alone = Vocoder(codec)(Decoder(codec)(codes[1:, :, :length], torch.tensor([length])), torch.tensor([8 * length]))
    near(together[1:, : 2560 * length], alone.numpy())


@pytest.mark.parametrize(("name", "rate", "upsample"), [("codec_24k", 24000, 1920), ("codec_32k", 32000, 2560)])
def test_released_files_have_exactly_these_keys(name: str, rate: int, upsample: int) -> None:
    hop = upsample // 8
    params = yaml.safe_load(CODEC_YAML.read_text())["generator_params"]
    audio = {"d_model": 768, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072, "encoder_layers": 12}
    for key in ("semantic_encoder_kwargs", "acoustic_encoder_kwargs"):
        params[key] |= audio
    params["acoustic_decoder_kwargs"] |= {k.replace("encoder_", "decoder_"): v for k, v in audio.items()}
    sizes = {"semantic_encoder_adapter": (768, 768), "pre_rvq_adapter": (1536, 768), "post_rvq_adapter": (3072, 3072)}
    for key, (inner, outer) in sizes.items():
        params[f"{key}_kwargs"] |= audio | {"encoder_layers": 4, "input_dim": inner, "output_dim": outer}
    params["downsample_kwargs"]["d_model"] = params["upsample_kwargs"]["d_model"] = 768
    params["quantizer_kwargs"] |= {"codebook_dim": 512, "rvq_dim": 512, "codebook_size": 1024}
    params["quantizer_kwargs"] |= {"input_dim": 3072, "output_dim": 3072}
    params["vocos_kwargs"] |= {"dim": 512, "intermediate_dim": 4096, "num_layers": 30}
    params["vocos_kwargs"] |= {"n_fft": 4 * hop, "hop_size": hop}
    params |= {"output_sample_rate": rate, "decoder_upsample_rate": upsample}
    with torch.device("meta"):
        own = XYTokenizer(codec_config(params)).state_dict()
    assert {published_key(key): list(value.shape) for key, value in own.items()} == manifest(name)


def test_every_layout_loads_the_same_codec(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    wanted = tiny_codec().state_dict()
    released = {published_key(key): value for key, value in wanted.items()}
    torch.save(released, tmp_path / "bare")
    torch.save({"generator": released}, tmp_path / "xy_tokenizer.ckpt")
    folder = tmp_path / "hf"
    folder.mkdir()
    renamed = {}
    for key, value in wanted.items():
        key = key.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")
        renamed[key.replace("positional_embedding", "positional_embedding.weight")] = value.contiguous()
    save_file(renamed, folder / "model.safetensors")
    for path in (tmp_path / "bare", tmp_path / "xy_tokenizer.ckpt", folder):
        found = load_codec(tiny_codec_config(), path).state_dict()
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), path


def test_files_that_do_not_fit_say_why(tmp_path: Path) -> None:
    config = tiny_codec_config()
    state = {published_key(key): value for key, value in tiny_codec().state_dict().items()}
    path = tmp_path / "codec.ckpt"
    with pytest.raises(CheckpointError, match=r"codec\.ckpt does not exist"):
        load_codec(config, path)
    torch.save({"generator": {"a": 1}}, path)
    with pytest.raises(CheckpointError, match=r"has no weights that fit: it holds generator \(dict\)"):
        load_codec(config, path)
    torch.save({k: v for k, v in state.items() if "quantizer" not in k}, path)
    with pytest.raises(CheckpointError, match="38 missing keys: quantizer"):
        load_codec(config, path)
    torch.save(state | {"downsample.down_proj.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(CheckpointError, match=r"1 wrong shapes: downsample.down_proj.weight is \[3, 3\]"):
        load_codec(config, path)
    torch.save(state | {"quantizer.quantizers.2.inited": torch.tensor([False])}, path)
    with pytest.raises(CheckpointError, match=r"never initialised \(quantizer.quantizers.2.inited false\)"):
        load_codec(config, path)
    torch.save(state | {"enhanced_vocos.head.istft.window": torch.ones(1280)}, path)
    with pytest.raises(CheckpointError, match="synthesis window other than Hann's"):
        load_codec(config, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a complete file"):
        load_codec(config, path)
    empty = tmp_path / "folder"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"has no \*\.safetensors; it has nothing"):
        load_codec(config, empty)
    (empty / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not a file of safetensors"):
        load_codec(config, empty)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", r"codec\.yaml does not exist"),
        ("a: [", "is not valid YAML"),
        ("other: 1", "has no section generator_params; found other"),
        ("generator_params: {x: 1}", "section downsample_kwargs is missing; found x"),
        ("d_model: 24|d_model: wide", r"d_model is 'wide'; expected a whole number from 1 to 32768"),
        ("decoder_upsample_rate: 2560|decoder_upsample_rate: 1920", "is 1920; the other entries require 2560"),
        ("scale_embedding: false|scale_embedding: true", "scale_embedding is true"),
    ],
)  # fmt: skip
def test_bad_configurations_name_the_entry(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "codec.yaml"
    if "|" in change:
        path.write_text(CODEC_YAML.read_text().replace(*change.split("|")))
    elif change:
        path.write_text(change)
    with pytest.raises(ConfigError, match=message):
        read_codec_config(path)


def test_stages_take_what_they_declare() -> None:
    for stage in codec_stages(tiny_codec_config(), tiny_codec):
        for which in ("lo", "opt"):
            example = stage.example(stage.sizes(which) | {"batch": 2})
            found = tiny_codec_call()(stage.name, **example)
            assert set(found) == {tensor.name for tensor in stage.outputs}
            for tensor in stage.outputs:
                assert found[tensor.name].shape == tensor.sizes(stage.sizes(which) | {"batch": 2})
