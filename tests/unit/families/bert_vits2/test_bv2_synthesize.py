"""From text to waveform on the stages: the published numbers, ragged batches, windows without seams, host glue."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bert_vits2.folder import write_tiny
from support.bert_vits2.tiny import arrays, replay, tiny_config, tiny_generator, tiny_text

from tritone.catalog import open_family
from tritone.engines.torch import TorchCall, torch_call
from tritone.errors import InvalidRequest
from tritone.families.bert_vits2 import whole
from tritone.families.bert_vits2.config import BertVits2Config, ModelConfig
from tritone.families.bert_vits2.networks.decoder import Decoder
from tritone.families.bert_vits2.request import Controls, noise, prepare, segments, text_arrays
from tritone.families.bert_vits2.stages import BATCH, all_stages
from tritone.families.bert_vits2.voice import Voice
from tritone.families.bert_vits2.whole import Encoded, Place, decoded, durations, encode, latents, whole_frames
from tritone.families.bert_vits2.windows import receptive_field, stream_windows, whole_windows
from tritone.load import Model, load_model
from tritone.nn.weight_norm import fold_weight_norm
from tritone.stage import Arrays

SENTENCES = ("今天天气很好。", "Yes.", "The birch canoe slid on the planks.", "こんにちは、元気ですか。", "Oh, no!")


@pytest.fixture(scope="module")
def call() -> TorchCall:
    generator = fold_weight_norm(tiny_generator())
    return torch_call(all_stages(tiny_config(), lambda: generator))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write_tiny(tmp_path_factory.mktemp("bert_vits2") / "tiny"))


def request(**fields: Any) -> Arrays:
    kinds = {str: lambda v: np.array([[v.encode()]], object), int: lambda v: np.array([[v]], np.int64)}
    return {k: kinds.get(type(v), lambda v: np.array([[v]], np.float32))(v) for k, v in fields.items()}


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", ["det1", "noisy1"])
def test_the_stages_and_their_glue_give_the_published_utterance(
    name: str, call: TorchCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row, as published code speaks it: durations exact, waveform to 1e-4 of its peak."""
    known = {key: value.numpy() for key, value in arrays("infer", f"{name}.").items()}
    text = tiny_text(1)
    options = {key[4:]: float(value) for key, value in known.items() if key.startswith("opt_")}
    defaults = {"sdp_ratio": 0.0, "noise_scale": 0.667, "noise_scale_w": 0.8, "length_scale": 1.0}
    draws = replay(torch.from_numpy(known["noise0_n"][0]), torch.from_numpy(known["noise1_n"][0]))
    monkeypatch.setattr(whole, "noise", lambda *key: draws(key[3]).numpy())
    g = whole.speakers(call, [int(arrays("stages")["sid"][0])])
    places = [Place(0, 0, Controls(**(defaults | options)), g)]
    names = ("x", "x_lengths", "t", "language", "bert_0", "bert_1", "bert_2")
    given = {key: value.numpy() for key, value in zip(names, text, strict=True) if key != "x_lengths"}
    encoded = encode(call, places, [given])
    frames = durations(call, places, encoded)
    np.testing.assert_array_equal(frames[0], known["dur"][0, 0])
    (z,) = latents(call, places, encoded, frames)
    assert relative(z, known["z"]) <= 1e-4
    around = receptive_field(tiny_config().model)
    for windows in (whole_windows(z.shape[2], around, 1000), stream_windows(z.shape[2], around, 1000)):
        wave = np.concatenate(list(decoded(call, z, g, windows)))
        assert relative(wave, known["o"][0, 0]) <= 1e-4


def test_segments_of_a_batch_get_what_they_get_alone(call: TorchCall) -> None:
    voice = Voice(tiny_config(), {})
    prepared = [prepare(request(target_text=text, seed=index), voice) for index, text in enumerate(SENTENCES)]
    texts = [text_arrays(one, 0, voice) for one in prepared]
    g = whole.speakers(call, [index % 5 for index in range(len(texts))])
    places = [Place(i, 0, Controls(0.3, 0.6, 0.9, 1.0 + 0.2 * i), g[i : i + 1]) for i in range(len(texts))]
    encoded = encode(call, places, texts)
    frames = durations(call, places, encoded)
    zs = latents(call, places, encoded, frames)
    assert len({text["x"].shape[1] for text in texts}) > 3 and len(texts) > BATCH.hi
    for i, place in enumerate(places):
        (alone,) = encode(call, [place], [texts[i]])
        for name in Encoded._fields:
            assert relative(getattr(encoded[i], name), getattr(alone, name)) <= 2e-5
        (own,) = durations(call, [place], [alone])
        np.testing.assert_array_equal(frames[i], own)
        (z,) = latents(call, [place], [alone], [own])
        assert relative(zs[i], z) <= 2e-5


def test_requests_of_a_batch_get_what_they_get_alone(model: Model) -> None:
    """Through every host step at once, with requests of one and of several segments."""
    texts = ("One. Two is longer. " * 3, *SENTENCES)
    known: list[Any] = [request(target_text=text, seed=index, speaker="dai") for index, text in enumerate(texts)]
    for host in model.family.hosts:
        given = [{t.name: one[t.name] for t in host.inputs if t.name in one} for one in known]
        known = [one | new for one, new in zip(known, host.run(model.call, model.llm, given), strict=True)]
    for index, text in enumerate(texts):
        assert relative(known[index]["waveform"][0], model.synthesize(text, seed=index, speaker="dai")) <= 1e-4


def test_a_stream_is_the_whole_utterance_without_seams(model: Model) -> None:
    text = "The birch canoe slid on the smooth planks. " + "".join(SENTENCES)
    wave, chunks = model.synthesize(text, seed=3, length_scale=3.0), list(model.stream(text, seed=3, length_scale=3.0))
    assert len(chunks) > 10
    assert relative(np.concatenate(chunks), wave) <= 1e-4
    borders = np.cumsum([chunk.size for chunk in chunks])[:-1]
    jumps = np.abs(np.diff(wave))
    assert jumps[borders - 1].mean() < 3 * jumps.mean()


def test_whole_utterances_longer_than_a_window_are_cut_inaudibly(call: TorchCall) -> None:
    rng = np.random.default_rng(0)
    z, around = rng.standard_normal((1, 8, 500), np.float32), receptive_field(tiny_config().model)
    g = whole.speakers(call, [1])
    (once,) = decoded(call, z, g, whole_windows(500, around, 500))
    pieces = list(decoded(call, z, g, whole_windows(500, around, 60)))
    assert len(pieces) > 10
    assert relative(np.concatenate(pieces), once) <= 1e-5


SMALL_FULL = ModelConfig(inter_channels=4, upsample_initial_channel=32, gin_channels=2)
"""The published kernels, dilations and rates with few channels."""


@pytest.mark.parametrize("config", [tiny_config().model, SMALL_FULL], ids=["tiny", "published"])
def test_the_receptive_field_is_exactly_what_gradients_say(config: ModelConfig) -> None:
    torch.manual_seed(0)
    decoder, around = fold_weight_norm(Decoder(config)), receptive_field(config)
    frames, middle = 2 * around + 21, around + 10
    with torch.no_grad():
        for parameter in decoder.parameters():  # all positive, so that nothing cancels
            parameter.abs_().add_(1e-3).div_(parameter.sum())
        decoder.conv_post.weight.mul_(1e-6)  # where its tanh is linear
    z = torch.rand(1, config.inter_channels, frames, dtype=torch.double, requires_grad=True)
    wave = decoder.double()(z, torch.ones(1, config.gin_channels, 1, dtype=torch.double))
    hop = wave.shape[2] // frames
    wave[0, 0, middle * hop : (middle + 1) * hop].sum().backward()
    assert z.grad is not None
    reached = z.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0]
    assert max(middle - int(reached.min()), int(reached.max()) - middle) == around


def test_windows_cover_every_frame_once() -> None:
    for windows in (list(stream_windows(700, 14, 300)), list(whole_windows(700, 14, 300))):
        assert [w.start for w in windows] == [0, *(w.stop for w in windows[:-1])] and windows[-1].stop == 700
        assert all(w.end - w.begin <= 300 and w.begin == max(0, w.start - 14) for w in windows)
    assert [w.stop - w.start for w in stream_windows(700, 14, 300)][:3] == [16, 32, 64]
    assert len(list(whole_windows(300, 14, 300))) == 1


def test_durations_are_whole_bounded_and_at_least_one_frame_in_all() -> None:
    np.testing.assert_array_equal(whole_frames(np.log(np.array([0.2, 1.0, 2.1], np.float32)), 1.0), [1, 1, 3])
    np.testing.assert_array_equal(whole_frames(np.array([-200.0, -200.0], np.float32), 1.0), [1, 0])
    for far in (9.0, 200.0, np.nan):
        with pytest.raises(
            InvalidRequest,
            match=r"target_text: a segment would last .* the limit is 3000; split the text, or",
        ):
            whole_frames(np.array([far], np.float32), 1.0)


def test_text_is_cut_at_sentences_and_languages_stay_together() -> None:
    assert segments("今天很好 and the sun is out today. Next one is another.", "AUTO") == [
        [("ZH", "今天很好"), ("EN", "and the sun is out today.")],
        [("EN", "Next one is another.")],
    ]
    assert segments("[JP]今日は。[ZH]你好。", "AUTO") == [[("JP", "今日は。")], [("ZH", "你好。")]]
    assert segments("One. Two.", "EN") == [[("EN", "One. Two.")]]
    long = segments("word " * 60, "AUTO")
    assert len(long) > 3 and all(len(one) == 1 for one in long)


def test_a_segment_of_too_many_phones_is_refused(model: Model) -> None:
    count = 600
    fields = {"language": "EN", "phones": "ah " * count, "tones": "1 " * count, "word2ph": str(count)}
    with pytest.raises(InvalidRequest, match="a segment has 1201 phones and blanks; the limit is 1000; split the text"):
        model.synthesize("", **fields)


def test_noise_is_of_the_seed_the_segment_and_the_purpose() -> None:
    base = noise(1, 2, 0, (2, 5))
    np.testing.assert_array_equal(base, noise(1, 2, 0, (2, 5)))
    for other in (noise(2, 2, 0, (2, 5)), noise(1, 3, 0, (2, 5)), noise(1, 2, 1, (2, 5))):
        assert np.abs(other - base).max() > 0.1


@pytest.mark.parametrize(("version", "deviation"), [("2.0", 0.0), ("2.2", 0.29), ("2.3", 1.0)])
def test_without_bert_each_version_gets_the_filler_it_was_trained_with(version: str, deviation: float) -> None:
    config: BertVits2Config = dataclasses.replace(tiny_config(), version=version)
    voice = Voice(config, {})
    heard = {"emotion": np.zeros((1, 512), np.float32)} if version == "2.2" else {}
    prepared = prepare(request(target_text="Hello there.", seed=4) | heard, voice)
    found = text_arrays(prepared, 0, voice)
    again = text_arrays(prepared, 0, voice)
    for name in ("bert_0", "bert_1", "bert_2"):
        assert found[name].shape == (1, 1024, found["x"].shape[1])
        assert float(found[name].std()) == pytest.approx(deviation, abs=0.02)
        np.testing.assert_array_equal(found[name], again[name])


def test_a_checkpoint_without_blanks_is_given_the_phones_between_them() -> None:
    config = tiny_config()
    without = dataclasses.replace(config, data=dataclasses.replace(config.data, add_blank=False))
    prepared = prepare(request(target_text="Hello \u4f60\u597d", language="auto"), Voice(config, {}))
    full, bare = (text_arrays(prepared, 0, Voice(one, {})) for one in (config, without))
    assert full["x"].shape[1] == 2 * bare["x"].shape[1] + 1 and not full["x"][0, ::2].any()
    assert len(np.unique(bare["language"])) == 2, "both languages, so that there is a join"
    for name, array in bare.items():
        np.testing.assert_array_equal(array, full[name][..., 1::2])
    parts = prepared.segments[0]
    symbols = [phone for part in parts for phone in part.phones if phone != "_"]
    assert bare["x"].shape[1] == len(symbols) + 2, "every phone once, and the pads of both ends"


def test_a_cancelled_stream_computes_nothing_more(model: Model) -> None:
    asked: list[str] = []

    def call(stage: str, **given: np.ndarray) -> Arrays:
        asked.append(stage)
        return model.call(stage, **given)

    cancelled = False
    chunks = model.family.synthesize(call, None, request(target_text="One two three. " * 30), lambda: cancelled)
    next(chunks)
    before = len(asked)
    cancelled = True
    assert list(chunks) == [] and len(asked) == before


def test_speakers_without_names_are_numbers(tmp_path: Path) -> None:
    family = open_family(write_tiny(tmp_path / "tiny", spk2id={}))
    assert family.settings["speakers"] == ["0", "1", "2", "3", "4"]
    with pytest.raises(InvalidRequest, match="unknown speaker '5'; the speakers are 0, 1, 2, 3, 4"):
        next(family.synthesize(torch_call(family.stages), None, request(target_text="Hi.", speaker="5")))
