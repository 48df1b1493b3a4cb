"""Dialogue from text to sound: the stream is the whole, batches change nothing, and bad requests are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.moss_helpers import write_checkpoint

from tritone.engines.torch import TorchCall, torch_call
from tritone.errors import CheckpointError, ConfigError, InvalidRequest
from tritone.families.moss_ttsd.checkpoint import open_checkpoint
from tritone.families.moss_ttsd.family import family
from tritone.families.moss_ttsd.stream import NoSpeech
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.lm.description import StageLm
from tritone.stage import Arrays, Family


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("moss"))


@pytest.fixture(scope="module")
def described(folder: Path) -> Family:
    return family(folder)


@pytest.fixture(scope="module")
def call(described: Family) -> TorchCall:
    return torch_call(described.stages)


def request(text: str = "[S1]Hello. [S2]Hi.", **fields: Any) -> Arrays:
    arrays = {"target_text": np.array([[text.encode()]], object)}
    for name, value in {"max_seconds": 4.0, **fields}.items():
        if isinstance(value, str):
            arrays[name] = np.array([[value.encode()]], object)
        else:
            kind = np.int64 if name == "seed" else np.int32 if name.endswith("_len") else np.float32
            arrays[name] = np.array(value, kind).reshape(1, -1)
    return arrays


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(round(16000 * seconds)).astype(np.float32) * 0.1


def whole(described: Family, call: TorchCall, requests: list[Arrays]) -> list[Any]:
    """Results of the ensemble's steps, one after the other."""
    assert isinstance(described.lm, StageLm)
    llm, known = described.lm.open(call), [dict(one) for one in requests]
    for host in described.hosts:
        names = {tensor.name for tensor in host.inputs}
        found = host.run(call, llm, [{k: v for k, v in one.items() if k in names} for one in known])
        if any(isinstance(one, Exception) for one in found):
            return found
        known = [before | after for before, after in zip(known, found, strict=True)]
    return known


def streamed(described: Family, call: TorchCall, asked: Arrays) -> list[np.ndarray]:
    assert isinstance(described.lm, StageLm)
    return list(described.synthesize(call, described.lm.open(call), asked))


@pytest.mark.parametrize("fields", [{}, {"reference_wav": sound(2.1), "reference_text": "[S1]Yes. [S2]No."}])
def test_a_stream_is_the_whole_utterance(described: Family, call: TorchCall, fields: dict[str, Any]) -> None:
    asked = request(seed=3, **fields)
    pieces = streamed(described, call, asked)
    (found,) = whole(described, call, [asked])
    assert len(pieces) > 1 and len(pieces[0]) == 11 * 2560
    assert found["waveform"].shape == (1, 50 * 2560)
    together = np.concatenate(pieces)
    assert np.abs(together - found["waveform"][0]).max() <= 1e-4 * np.abs(together).max()


def test_each_request_of_a_batch_is_what_it_is_alone(described: Family, call: TorchCall) -> None:
    asked = [request("[S1]One.", seed=1, max_seconds=1.5), request("[S1]And a longer one. [S2]Yes!", seed=2)]
    together = whole(described, call, asked)
    for one, found in zip(asked, together, strict=True):
        (alone,) = whole(described, call, [one])
        assert np.array_equal(alone["codes"], found["codes"])
    assert [found["codes"].shape[2] for found in together] == [19, 50]


def test_seeds_references_and_sampling_are_heard(described: Family, call: TorchCall) -> None:
    usual = request(seed=1, max_seconds=1.0)
    references = {"reference_wav": sound(1.0), "reference_text": "One.", "max_seconds": 1.0}
    second = {"reference_wav_2": sound(1.5, 1), "reference_text_2": "Two."}
    others = [
        request(seed=2, max_seconds=1.0),
        request(seed=1, **references),
        request(seed=1, **references, **second),
        request(seed=1, max_seconds=1.0, top_k=1.0),
        request(seed=1, max_seconds=1.0, temperature=[3.0, *[1.0] * 7]),
        request(seed=1, max_seconds=1.0, text="[S1]Hello； [S2]Hi.", normalize="0.7"),
    ]
    found = [whole(described, call, [one])[0]["codes"].tobytes() for one in [usual, *others]]
    assert len(set(found)) == len(found)
    assert whole(described, call, [usual])[0]["codes"].tobytes() == found[0]


def test_two_references_are_one_after_the_other(described: Family, call: TorchCall) -> None:
    prompt = described.hosts[0]
    asked = request(
        reference_wav=sound(1.0), reference_text="One.", reference_wav_2=sound(1.5, 1), reference_text_2="Two."
    )
    tagged = request("[S1]One.[S2]Two.[S1]Hello. [S2]Hi.")
    (both,), (text,) = (prompt.run(call, None, [one]) for one in (asked, tagged))
    assert both["reference_codes"].shape == (1, 8, 31)
    written = text["prompt_rows"].shape[1] - 7
    assert np.array_equal(both["prompt_rows"][0, :written, 0], text["prompt_rows"][0, :written, 0])
    assert both["prompt_rows"].shape[1] == text["prompt_rows"].shape[1] + 31


def test_a_model_that_ends_at_once_is_an_error(described: Family, call: TorchCall) -> None:
    def ending(stage: str, **arrays: np.ndarray) -> Arrays:
        found = call(stage, **arrays)
        if stage == "lm_step":
            found["text_logits"][:, 7] = 1e4
        return found

    (found,) = whole(described, ending, [request()])  # type: ignore[arg-type]
    assert isinstance(found, NoSpeech) and "before it had said anything; send another seed" in str(found)
    with pytest.raises(NoSpeech):
        streamed(described, ending, request())  # type: ignore[arg-type]


def test_a_cancelled_stream_ends_soon(described: Family, call: TorchCall) -> None:
    assert isinstance(described.lm, StageLm)
    steps = []

    def counted(stage: str, **arrays: np.ndarray) -> Arrays:
        steps.append(stage)
        return call(stage, **arrays)

    found = described.synthesize(counted, described.lm.open(counted), request(), lambda: len(steps) > 5)
    assert list(found) == [] and len(steps) < 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "[S3]x"}, r"target_text: names \[S3\]"),
        ({"text": "[S1] "}, "target_text: has nothing to say"),
        (
            {"text": "[S1]" + "long " * 2000},
            "target_text: the prompt has .* positions, references included; the limit is",
        ),
        ({"reference_wav": sound(1.0)}, "reference_text: is missing; send the transcript of reference_wav"),
        ({"reference_text": "x"}, "reference_text: came without reference_wav"),
        ({"reference_wav_2": sound(1.0), "reference_text_2": "x"}, "reference_wav_2: came without reference_wav"),
        ({"reference_wav": sound(0.1), "reference_text": "x"}, "reference_wav: too short"),
        ({"reference_wav": sound(31.0), "reference_text": "x"}, "reference_wav: too long"),
        ({"reference_wav": sound(1.0) * np.nan, "reference_text": "x"}, "reference_wav: contains NaN"),
        (
            {"reference_wav": sound(1.0) * 32768, "reference_text": "x"},
            "reference_wav: reaches .* divide them by 32768",
        ),
        ({"reference_wav": sound(0.0), "reference_text": "x"}, "reference_wav: is empty: it has no samples; send"),
        ({"reference_wav": sound(1.0), "reference_wav_len": 0, "reference_text": "x"}, "reference_wav: is empty"),
        ({"reference_wav_2_len": 5}, "reference_wav_2_len: came without reference_wav_2"),
        ({"reference_wav": sound(1.0), "reference_text": "[S4]x"}, r"reference_text: names \[S4\]"),
        ({"normalize": "2.0"}, "normalize: asked for '2.0'; the supported releases are 0.7 and 0.5"),
        ({"temperature": 0.0}, "temperature: cannot be 0"),
        ({"top_p": [0.5] * 3}, "top_p: has 3 values; send one, or one for each of 8 channels"),
        ({"max_seconds": -1.0}, "max_seconds: is -1; send a number of seconds"),
        ({"seed": -1}, "seed: is -1; a seed is 0 or more"),
        ({"speaker": "x"}, "speaker: no such input; inputs are target_text, reference_wav"),
    ],
)
def test_bad_requests_name_the_field(described: Family, call: TorchCall, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        streamed(described, call, request(**fields))
    (found,) = described.hosts[0].run(call, None, [request(**fields)])
    assert isinstance(found, InvalidRequest)


def test_folders_that_do_not_fit_say_what_is_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"lacks the codec's configuration: one of MOSS_TTSD_tokenizer.yaml"):
        open_checkpoint(tmp_path)
    yaml = tmp_path / "xy_tokenizer_config.yaml"
    yaml.write_text((folder / "xy_tokenizer_32k_config.yaml").read_text())
    with pytest.raises(CheckpointError, match=r"lacks the codec's weights: one of MOSS_TTSD_tokenizer, xy_tokenizer.c"):
        open_checkpoint(tmp_path)
    (tmp_path / "xy_tokenizer.ckpt").touch()
    yaml.write_text(yaml.read_text().replace("codebook_size: 1024", "codebook_size: 64"))
    with pytest.raises(ConfigError, match=r"8 channels of 1024 codes .* xy_tokenizer_config.yaml 8 of 64; these are"):
        open_checkpoint(tmp_path)
    text = (folder / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace("<speaker2>", "<speaker9>"))
    with pytest.raises(CheckpointError, match="lacks <speaker2>; use the tokenizer of a dialogue model"):
        DialogueTokenizer(tmp_path).encode("[S1]")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot be read from tokenizer\.json"):
        DialogueTokenizer(tmp_path).encode("[S1]")
    assert json.loads(text)["model"]["type"] == "BPE"
