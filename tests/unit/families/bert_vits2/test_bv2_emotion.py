"""Versions 2.1 and 2.2: the published numbers of their text encoders, which version a file is, and what is refused.

`emotion.npz` was recorded once from the published networks of 2.1 (as 2.2 and later load it) and 2.2 on a CPU in
float32: the tiny sizes and weights of the other golden numbers, random embeddings, an utterance with its noise.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2.emotional import config_of, embedding, generator_of, write
from support.bert_vits2.tiny import FOLDER, arrays, manifest, peak_error, replay, tiny_text
from torch import Tensor

from tritone.catalog import open_family
from tritone.cli.convert import main as convert
from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.bert_vits2.config import read_config
from tritone.families.bert_vits2.networks.generator import Generator
from tritone.families.bert_vits2.networks.weights import load_generator
from tritone.load import load_model
from tritone.nn.weight_norm import older_layout

WIDTHS = {"2.1": 1024, "2.2": 512}
UNNUMBERED = torch.tensor([-1, -1])


def given(version: str, emotion: Tensor) -> tuple[Tensor, ...]:
    return (emotion, UNNUMBERED[: len(emotion)]) if version == "2.1" else (emotion,)


@pytest.mark.parametrize("version", WIDTHS)
def test_keys_and_shapes_are_the_published_ones(version: str) -> None:
    config = read_config(FOLDER / "config_full.json")
    data, model = (
        dataclasses.replace(config.data, n_speakers=896),
        dataclasses.replace(config.model, gin_channels=256),
    )
    with torch.device("meta"):
        state = older_layout(
            Generator(dataclasses.replace(config, version=version, data=data, model=model)).state_dict()
        )
    published = manifest(f"full_{version}")
    assert {key: list(value.shape) for key, value in state.items()} == published
    assert list(state) == list(published) and any("emo" in key for key in published)


@pytest.mark.parametrize("version", WIDTHS)
@torch.inference_mode()
def test_the_text_encoder_computes_the_published_numbers(version: str) -> None:
    known, stages, text = arrays("emotion", f"{version}."), arrays("stages"), tiny_text()
    generator = generator_of(config_of(version))
    mask, g = stages["x_mask"], generator.speaker(stages["sid"])
    found = generator.enc_p(text.x, mask, *text[2:], g, *given(version, known["emotion"]))
    for name, value in zip(("x", "m_p", "logs_p"), found, strict=True):
        assert peak_error(value, known[name]) <= 1e-5
    other = generator.enc_p(text.x, mask, *text[2:], g, *given(version, known["emotion"].flip(0)))[0]
    assert peak_error(other, known["x"]) > 1e-2, "the emotion matters"
    row = tiny_text(1)
    for number in (0, 7) if version == "2.1" else ():
        numbered = (torch.full((1, 1024), 9.0), torch.tensor([number]))
        encoded = generator.enc_p(row.x, mask[:1], *row[2:], g[:1], *numbered)
        for name, value in zip(("x", "m_p", "logs_p"), encoded, strict=True):
            assert peak_error(value, known[f"id{number}.{name}"]) <= 1e-5


@pytest.mark.parametrize("version", WIDTHS)
@torch.inference_mode()
def test_a_whole_utterance_is_the_published_one(version: str) -> None:
    known, generator = arrays("emotion", f"{version}."), generator_of(config_of(version))
    options = {key[10:]: float(value) for key, value in known.items() if key.startswith("infer.opt_")}
    g = generator.speaker(arrays("stages")["sid"][:1])
    draws = replay(known["infer.noise0"], known["infer.noise1"])
    emotion = given(version, known["emotion"][:1])
    spoken = generator.infer(tiny_text(1), g, draws, emotion=emotion, **options)
    np.testing.assert_array_equal(spoken.duration.reshape(-1), known["infer.dur"])
    assert peak_error(spoken.waveform, known["infer.o"]) <= 1e-5


@pytest.mark.parametrize("version", WIDTHS)
def test_an_utterance_is_spoken_with_its_emotion_streamed_as_whole(version: str, tmp_path: Path) -> None:
    width = WIDTHS[version]
    model = load_model(write(tmp_path / "tiny", config_of(version)))
    assert model.family.settings["version"] == version and model.family.settings["emotion_numbers"] == width
    said: list[np.ndarray] = []
    for seed in range(2):
        emotion = embedding(width, seed)
        whole = model.synthesize("Hello there.", emotion=emotion)
        np.testing.assert_allclose(
            np.concatenate(list(model.stream("Hello there.", emotion=emotion))), whole, atol=1e-5
        )
        said.append(whole)
    assert said[0].shape != said[1].shape or np.abs(said[0] - said[1]).max() > 1e-3
    if version == "2.1":
        usual = model.synthesize("Hello there.")
        first, other = (model.synthesize("Hello there.", emotion_id=number) for number in (0, 7))
        np.testing.assert_array_equal(usual, first)
        assert other.shape != first.shape or np.abs(other - first).max() > 1e-3


def test_requests_of_a_batch_keep_their_own_emotions(tmp_path: Path) -> None:
    model = load_model(write(tmp_path / "tiny", config_of("2.1")))
    asked: list[dict[str, Any]] = [{"emotion_id": 3}, {"emotion": embedding(1024)}, {}]
    text = np.array([[b"Hello there."]], object)
    requests = [
        {"target_text": text} | {k: np.array([[v]], np.int64) if k == "emotion_id" else v for k, v in one.items()}
        for one in asked
    ]
    known: list[Any] = requests
    for host in model.family.hosts:
        named = [{t.name: one[t.name] for t in host.inputs if t.name in one} for one in known]
        known = [one | new for one, new in zip(known, host.run(model.call, model.llm, named), strict=True)]
    for one, found in zip(asked, known, strict=True):
        expected = model.synthesize("Hello there.", **one)
        np.testing.assert_allclose(found["waveform"][0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("version", "fields", "problem"),
    [
        ("2.1", {"emotion": embedding(7)}, r"emotion: has 7 numbers; this voice, of version 2.1, takes 1024, the mean"),
        (
            "2.1",
            {"emotion": embedding(512)},
            r"emotion: has 512 numbers as an embedding of CLAP has \(version 2.2\); this voice, of version 2.1",
        ),
        ("2.2", {"emotion": embedding(1024)}, r"emotion: has 1024 numbers as the mean of .* takes 512, an embedding"),
        ("2.1", {"emotion": np.full((1, 1024), np.nan, np.float32)}, "emotion: contains NaN or infinite"),
        ("2.2", {"emotion": np.full((1, 512), np.inf, np.float32)}, "emotion: contains NaN or infinite"),
        ("2.2", {"emotion": np.full((1, 512), 1e30, np.float32)}, r"emotion: reaches 1e\+30; the numbers of embed"),
        ("2.1", {"emotion_id": 10}, "emotion_id: is 10; the numbered emotions are 0 to 9"),
        ("2.1", {"emotion_id": -1}, "emotion_id: is -1; the numbered emotions are 0 to 9"),
        ("2.1", {"emotion_id": 1, "emotion": embedding(1024)}, "emotion_id: came together with emotion; send one"),
        ("2.2", {"emotion_id": 1}, "emotion_id: a voice of version 2.2 has no numbered emotions; send emotion, 512"),
        ("2.2", {}, "emotion: is missing; a voice of version 2.2 takes 512 .* the published empty_emo.npy .* default"),
        ("2.3", {"emotion": embedding(512)}, "emotion: a voice of version 2.3 takes no emotion .*; leave it out"),
        ("2.0", {"emotion_id": 0}, "emotion_id: a voice of version 2.0 takes no emotion .*; leave it out"),
        ("unsaved", {"emotion_id": 0}, "emotion_id: this voice's file has no codebook of emotions .*; leave it out"),
    ],
)
def test_an_emotion_that_a_voice_cannot_hear_is_refused_by_name(
    version: str, fields: dict[str, Any], problem: str
) -> None:
    from tritone.families.bert_vits2.emotion_input import read_emotion

    config = config_of("2.1", saved=False) if version == "unsaved" else config_of(version)
    arrays = {k: np.array([[v]], np.int64) if isinstance(v, int) else v for k, v in fields.items()}
    with pytest.raises(InvalidRequest, match=problem):
        read_emotion(arrays, config)


def test_the_checkpoints_own_embedding_is_heard_by_default(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny", config_of("2.2"))
    own = embedding(512, 5)
    expected = load_model(folder).synthesize("Hello there.", emotion=own)
    torch.save(torch.from_numpy(own.reshape(512, 1)), folder / "empty_emo.npy")
    np.testing.assert_array_equal(load_model(folder).synthesize("Hello there."), expected)
    assert not open_family(folder).trial
    np.save(folder / "emotion.npy", embedding(512, 6))
    assert not np.array_equal(load_model(folder).synthesize("Hello there."), expected)
    assert convert(["compress", str(folder), str(tmp_path / "small")]) == 0
    assert (tmp_path / "small" / "empty_emo.npy").read_bytes() == (folder / "empty_emo.npy").read_bytes()
    np.save(folder / "emotion.npy", embedding(1024))
    with pytest.raises(CheckpointError, match=r"emotion.npy is of no use here: emotion: has 1024 numbers"):
        open_family(folder)
    half = io.BytesIO()
    torch.save(torch.zeros(512, dtype=torch.float16), half)
    for content in (b"\x93NUMPY\x01\x00cut", b"PK\x03\x04", half.getvalue()):
        (folder / "emotion.npy").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"emotion.npy is neither an array .* nor a tensor"):
            open_family(folder)


@pytest.mark.parametrize(
    ("version", "stated", "problem"),
    [
        ("2.1", "2.3", r'has the emotion input of version 2.1 .* says version 2.3. Write "version": "2.1" there'),
        ("2.1", "2.2", r"has the emotion input of version 2.1 \(enc_p.emo_quantizer.\*\), but .* says version 2.2"),
        ("2.2", "2.1", r"has the emotion input of version 2.2 \(enc_p.emo_vq.\*\), but .* says version 2.1"),
        ("2.2", "2.0", r"has the emotion input of version 2.2"),
        ("2.3", "2.2", r"says version 2.2, .* no emotion input: its weights are of 2.0 or 2.3. .* published with 2.3"),
        ("2.3", "2.1", r"says version 2.1, whose text encoder takes an emotion, but .*G_300.pth has no emotion input"),
    ],
)
def test_a_version_that_contradicts_the_weights_is_refused(
    version: str, stated: str, problem: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "tiny", config_of(version), stated)
    with pytest.raises(CheckpointError, match=problem):
        open_family(folder)
    with pytest.raises(CheckpointError, match=problem):
        load_generator(folder / "G_300.pth", read_config(folder / "config.json"))


@pytest.mark.parametrize(("version", "older"), [("2.1", False), ("2.2", True), ("2.3", False)])
def test_a_version_that_is_not_stated_is_told_by_the_weights(version: str, older: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny", config_of(version), "")
    if older:
        content = torch.load(folder / "G_300.pth", weights_only=True)
        torch.save(content, folder / "G_300.pth", _use_new_zipfile_serialization=False)
    assert open_family(folder).settings["version"] == version
    assert load_generator(folder / "G_300.pth", read_config(folder / "config.json")).enc_p is not None


@torch.inference_mode()
def test_without_its_codebook_2_1_speaks_with_the_mean_of_its_codes(tmp_path: Path) -> None:
    full = generator_of(config_of("2.1"))
    folder = write(tmp_path / "tiny", config_of("2.1", saved=False), "2.1")
    model = load_model(folder)
    assert model.family.settings["emotion_numbers"] == 0 and model.synthesize("Hello there.").size > 100
    text, stages = tiny_text(), arrays("stages")
    full.enc_p.emo_quantizer._codebook.embed.zero_()
    known = full.enc_p(text.x, stages["x_mask"], *text[2:], stages["g"], torch.zeros(2, 1024), torch.tensor([0, 3]))
    unsaved = load_generator(folder / "G_300.pth", read_config(folder / "config.json"))
    found = unsaved.enc_p(text.x, stages["x_mask"], *text[2:], stages["g"])
    assert peak_error(found[0], known[0]) <= 1e-5


def test_a_codebook_for_each_speaker_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny", config_of("2.1"))
    content = torch.load(folder / "G_300.pth", weights_only=True)
    mark = "enc_p.emo_quantizer."
    content["model"] = {key.replace(mark, f"{mark}3."): value for key, value in content["model"].items()}
    torch.save(content, folder / "G_300.pth")
    with pytest.raises(CheckpointError, match=r"a codebook of emotions for each speaker .* no release of 2.1 has"):
        load_generator(folder / "G_300.pth", read_config(folder / "config.json"))
