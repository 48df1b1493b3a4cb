"""The notes that a folder of transformers carries for the way back are checked, as any file from elsewhere is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tritone.catalog import open_family
from tritone.errors import CheckpointError


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({}, "the note tied of the weights is not valid JSON"),
        ({"tied": "[" * 99_999}, "the note tied of the weights nests lists or objects too deeply"),
        ({"tied": "false", "dtypes": "[]"}, "the notes on the checkpoint's dtypes are damaged; export the checkpoint"),
        (
            {"tied": "false", "dtypes": '{"other.weight": "float32"}'},
            "the notes on the checkpoint's dtypes are damaged",
        ),
        ({"tied": "false", "dtypes": '{"speech_embedding.weight": "load"}'}, "the notes name no dtype for speech_emb"),
    ],
)
def test_damaged_notes_are_named(tiny_v2: Path, notes: dict[str, str], message: str) -> None:
    language_model = open_family(tiny_v2).causal_lm
    assert language_model is not None and language_model.huggingface is not None
    model = language_model.huggingface()
    weights = model.split(model.read())
    assert model.join(weights).keys() == model.read().keys()
    with pytest.raises(CheckpointError, match=message):
        model.join(dataclasses.replace(weights, notes=notes))
