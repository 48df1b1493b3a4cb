"""Generator files are read as data, whole, in every layout that is in use, or refused with what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2.tiny import arrays, cut, peak_error, tiny_config, tiny_generator, tiny_text
from torch import Tensor

from tritone.errors import CheckpointError, ConfigError
from tritone.families.bert_vits2.config import VERSIONS
from tritone.families.bert_vits2.networks.generator import Generator
from tritone.families.bert_vits2.networks.weights import compress, load_generator, read_model
from tritone.families.bert_vits2.text.filler import BY_VERSION, filler, fillers
from tritone.nn.weight_norm import older_layout


def spoken(generator: Generator) -> Tensor:
    text = cut(tiny_text(), 1)
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        g = generator.speaker(torch.tensor([2]))
        return generator.infer(text, g, lambda shape: torch.randn(shape, generator=noise), sdp_ratio=0.3).waveform


def write(path: Path, state: dict[str, Tensor], **others: Any) -> Path:
    """Return a file as the published code writes it, or a bare state_dict without `others`."""
    torch.save({"model": state, **others} if others else state, path)
    return path


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_both_layouts_of_weight_norm_and_of_the_file_give_the_same_voice(
    tmp_path: Path, older: bool, bare: bool
) -> None:
    generator = tiny_generator()
    state = generator.state_dict()
    optimizer = torch.optim.AdamW(generator.dp.parameters()).state_dict()
    others = {} if bare else {"iteration": 7, "optimizer": optimizer, "learning_rate": 2e-4}
    path = write(tmp_path / "G_1.pth", older_layout(state) if older else dict(state), **others)
    loaded = load_generator(path, tiny_config())
    assert not loaded.training and loaded.enc_q is not None
    assert torch.equal(spoken(loaded), spoken(generator))


@pytest.mark.parametrize("half", [True, False])
def test_a_compressed_file_speaks_and_has_no_posterior_encoder(tmp_path: Path, half: bool) -> None:
    generator = tiny_generator()
    source = write(tmp_path / "G_1.pth", older_layout(generator.state_dict()), iteration=7, optimizer={})
    compress(source, tmp_path / "small.pth", half)
    content = torch.load(tmp_path / "small.pth", weights_only=True)
    assert {value.dtype for value in content["model"].values()} == {torch.float16 if half else torch.float32}
    assert set(content["model"]) == {key for key in read_model(source) if not key.startswith("enc_q.")}
    loaded = load_generator(tmp_path / "small.pth", tiny_config())
    assert loaded.enc_q is None and {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    error = peak_error(spoken(loaded), spoken(generator))
    assert (0 < error < 2e-2) if half else error == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("dp.proj.bias"), r"1 missing keys: dp.proj.bias"),
        (lambda s: s.update({"dp.extra": torch.zeros(1)}), r"1 unexpected keys: dp.extra"),
        (lambda s: s.update({"emb_g.weight": torch.zeros(9, 12)}), r"emb_g.weight is \[9, 12\] instead of \[5, 12\]"),
        (
            lambda s: s.update({"dec.ups.0.weight_g": torch.zeros(3, 1, 1)}),
            r"dec.ups.0.weight_g is \[3, 1, 1\] instead of \[16, 1, 1\]",
        ),
        (lambda s: s.pop("enc_q.proj.bias"), r"1 missing keys: enc_q.proj.bias"),
        (
            lambda s: s.update({"enc_p.emo_proj.weight": torch.zeros(8, 1024)}),
            r"has the emotion input of version 2.1 \(enc_p.emo_proj.\*\), but config.json says version 2.3. Write",
        ),
        (lambda s: s.pop("enc_p.ja_bert_proj.weight"), r"belongs to the Extra line \(2.4\).*versions 2.0 to 2.3 are"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    state = older_layout(tiny_generator().state_dict())
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load_generator(write(tmp_path / "G_1.pth", state, iteration=1), tiny_config())


def test_a_speaker_of_another_width_is_told_by_shape(tmp_path: Path) -> None:
    config = tiny_config()
    wide = dataclasses.replace(config, model=dataclasses.replace(config.model, gin_channels=16))
    path = write(tmp_path / "G_1.pth", older_layout(tiny_generator().state_dict()))
    with pytest.raises(
        CheckpointError, match=r"wrong shapes: .*spk_emb_linear.weight is \[8, 12\] instead of \[8, 16\]"
    ):
        load_generator(path, wide)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "G_1.pth"
    with pytest.raises(CheckpointError, match=r"G_1.pth does not exist"):
        read_model(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointError, match=r"is truncated or of another kind"):
        read_model(path)
    torch.save({"net": 3, "epoch": 4}, path)
    with pytest.raises(CheckpointError, match=r"it holds net \(int\), epoch \(int\); expected a state_dict"):
        read_model(path)
    torch.save({"model": {}, "iteration": 1}, path)
    with pytest.raises(CheckpointError, match=r"it holds model \(dict\), iteration \(int\); expected a state_dict"):
        read_model(path)
    torch.save({"model": {"a": np.float64(3)}}, path)
    with pytest.raises(CheckpointError, match=r"contains pickled code or objects"):
        read_model(path)
    write(path, {"discriminators.0.bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"is not a generator file: it has no enc_p.\*; .*discriminators.0.bias"):
        compress(path, tmp_path / "small.pth")
    assert not (tmp_path / "small.pth").exists()


def test_every_version_has_its_filler() -> None:
    assert set(BY_VERSION) == set(VERSIONS)
    streams = {version: filler(kind, (1024, 30), 5) for version, kind in BY_VERSION.items()}
    assert not streams["2.0"].any() and not streams["2.1"].any()
    assert streams["2.2"].min() >= 0 and streams["2.2"].max() < 1 and abs(streams["2.2"].mean() - 0.5) < 0.01
    assert abs(streams["2.3"].mean()) < 0.02 and abs(streams["2.3"].std() - 1) < 0.02
    assert {(stream.dtype, stream.shape) for stream in streams.values()} == {(np.dtype("float32"), (1024, 30))}


def test_fillers_depend_on_their_seed_alone() -> None:
    draw, again = fillers("normal", (1, 2)), fillers("normal", (1, 2))
    first, second = draw((4, 3)), draw((4, 3))
    assert np.array_equal(first, again((4, 3))) and not np.array_equal(first, second)
    assert not np.array_equal(first, filler("normal", (4, 3), (1, 3)))
    with pytest.raises(ConfigError, match=r"unknown BERT filler 'noise'; the fillers are zeros, uniform, normal"):
        fillers("noise", 0)


def test_the_filler_of_an_unused_stream_is_heard() -> None:
    generator, text = tiny_generator(), tiny_text(1)
    known = arrays("stages")
    mask, g = known["x_mask"][:1], known["g"][:1]
    with torch.inference_mode():
        encoded = [
            generator.enc_p(
                text.x, mask, text.tone, text.language, text.bert, torch.from_numpy(noise)[None], text.en_bert, g
            )[0]
            for noise in (filler("zeros", (1024, 13), 0), filler("normal", (1024, 13), 0))
        ]
    assert peak_error(encoded[0], encoded[1]) > 1e-2
