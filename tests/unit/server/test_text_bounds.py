"""Texts of every input of every family: too long ones are refused before anything is tokenized or computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import moss_helpers
from support.bert_vits2 import folder as bert

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2 import whole as bert_whole
from tritone.families.cosyvoice.speak import limits
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.load import Model, load_model
from tritone.request.fields import read_text
from tritone.stage import Arrays
from tritone.text.split import MAX_CHARACTERS
from tritone.text.tokenizer import TextTokenizer
from tritone.text.whisper_tokenizer import WhisperTokenizer

PHONES = {"phones": "_ AH0 _", "tones": "0 0 0", "word2ph": "1 1 1", "language": "EN"}


@pytest.fixture(scope="module")
def models(tiny_v1: Path, tiny_v2: Path, tiny_v3: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    moss = moss_helpers.write_checkpoint(tmp_path_factory.mktemp("moss"))
    folders = [tiny_v1, tiny_v2, tiny_v3, moss, bert.write_tiny(tmp_path_factory.mktemp("bert"))]
    return [load_model(folder) for folder in folders]


def text(value: str) -> np.ndarray:
    return np.array([[value.encode()]], object)


def nothing(stage_name: str, **_: np.ndarray) -> Any:
    raise AssertionError(f"{stage_name} ran for a text that is too long")


def test_every_text_that_is_too_long_is_refused_by_name(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    for tokenizer in (TextTokenizer, WhisperTokenizer, DialogueTokenizer):
        monkeypatch.setattr(tokenizer, "encode", lambda *_: nothing("tokenizer"))
    tried = 0
    for family in (model.family for model in models):
        for tensor in family.request:
            if tensor.dtype != "bytes":
                continue
            base: Arrays = {"target_text": text("[S1]Hello." if family.name == "moss_ttsd" else "Hello.")}
            # Bert-VITS2 reads further texts only beside phones, whose own text it does not divide.
            base |= {name: text(value) for name, value in PHONES.items()} if family.name == "bert_vits2" else {}
            if tensor.name.startswith("reference_text"):
                for wav in ("reference_wav", tensor.name.replace("text", "wav")):
                    base |= {wav: np.zeros((1, 16000), np.float32)}
            request = base | {tensor.name: text("word " * 100_000)}
            (error,) = family.hosts[0].run(nothing, None, [request])
            assert isinstance(error, InvalidRequest), (family.name, tensor.name)
            assert error.field == tensor.name and "499999 characters; the limit is " in str(error), str(error)
            tried += 1
    assert tried == 3 * 5 + 4 + 7


def test_speech_is_bounded_whole_and_streamed(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (limits, bert_whole):
        monkeypatch.setattr(module, "LONGEST_SECONDS", 0)
    problem = r"target_text: speaks longer than 300 s, which is the limit of one request; split the text"
    for model in (models[0], models[1], models[2], models[4]):
        with pytest.raises(InvalidRequest, match=problem):
            model.synthesize("Hello there.")
        with pytest.raises(InvalidRequest, match=problem):
            list(model.stream("Hello there."))


def test_the_limit_counts_characters_without_the_space_around() -> None:
    longest = "ä" * MAX_CHARACTERS
    assert read_text({"reference_text": text(f" {longest}\n")}, "reference_text") == f" {longest}\n"
    problem = r"INVALID_ARGUMENT: reference_text: 5001 characters; the limit is 5000, send a shorter one"
    with pytest.raises(InvalidRequest, match=problem):
        read_text({"reference_text": text(longest + "ä")}, "reference_text")
    with pytest.raises(InvalidRequest, match="target_text: 5001 characters; the limit is 5000, send it in parts"):
        read_text({"target_text": text(longest + "ä")}, "target_text")
    assert read_text({}, "target_text") == ""
