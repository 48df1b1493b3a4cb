"""The forms in which trainers and extractors save the embeddings of speakers."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tritone.checkpoint.torch_file import read_torch_file
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.voices.speaker_file import write_entries
from tritone.families.cosyvoice.voices.speakers import add_voice, plain_entry, read_voices

VALUES = (np.arange(192) / 64).astype(np.float32)
"""Numbers that every dtype here has exactly."""
TENSOR = torch.from_numpy(VALUES.copy())

FORMS: dict[str, Any] = {
    "list": VALUES.tolist(),
    "list of a list": [VALUES.tolist()],
    "tensor": TENSOR,
    "row": TENSOR[None],
    "array": VALUES,
    "array of doubles": VALUES.astype(np.float64)[None],
    "transposed array": np.asfortranarray(np.stack([VALUES, VALUES]))[:1].T,
    "list of NumPy's numbers": list(VALUES),
    "bf16": TENSOR[None].bfloat16(),
    "fp16": TENSOR.half(),
    "parameter": torch.nn.Parameter(TENSOR[None]),
    "a parameter of halves": torch.nn.Parameter(TENSOR.bfloat16()),
}


@pytest.mark.parametrize("file", ["spk2info.pt", "spk2embedding.pt"])
def test_embeddings_of_every_form_are_read(file: str, tmp_path: Path) -> None:
    torch.save(FORMS | {f"{name} in an entry": {"embedding": value} for name, value in FORMS.items()}, tmp_path / file)
    voices = read_voices(tmp_path)
    assert len(voices.names) == 2 * len(FORMS)
    for name in voices.names:
        voice = voices.get(name)
        np.testing.assert_array_equal(voice.embedding, VALUES, name)
        assert voice.embedding.dtype == np.float32 and voice.trained


def test_names_that_are_numbers_and_a_file_without_speakers(tmp_path: Path) -> None:
    torch.save({0: TENSOR, 1: TENSOR}, tmp_path / "spk2info.pt")
    assert read_voices(tmp_path).names == ["0", "1"]
    torch.save({}, tmp_path / "spk2info.pt")
    assert read_voices(tmp_path).names == []


def test_a_voice_added_to_the_extractors_file_makes_it_the_published_one(tmp_path: Path) -> None:
    torch.save({"anna": VALUES.tolist()}, tmp_path / "spk2embedding.pt")
    add_voice(tmp_path, "ben", plain_entry(read_voices(tmp_path).get("anna")))
    assert [path.name for path in tmp_path.iterdir()] == ["spk2info.pt"]
    assert read_voices(tmp_path).names == ["anna", "ben"]
    torch.save({"anna": TENSOR}, tmp_path / "spk2embedding.pt")
    with pytest.raises(CheckpointError, match=r"has both spk2info\.pt and spk2embedding\.pt, which may disagree"):
        read_voices(tmp_path)


@pytest.mark.parametrize("count", [0, 191, 193, 384])
def test_embeddings_of_another_length_are_refused_when_they_are_read(count: int, tmp_path: Path) -> None:
    message = f"the embedding of speaker 'anna' has {count} numbers; .* has 192. .* voices {tmp_path} add anna --wav"
    for entry in (torch.zeros(1, count), {"embedding": torch.zeros(count)}, {"flow_embedding": torch.zeros(1, count)}):
        torch.save({"anna": entry}, tmp_path / "spk2info.pt")
        with pytest.raises(CheckpointError, match=message if count else "has no embedding of 192 numbers"):
            read_voices(tmp_path)
    (tmp_path / "spk2info.pt").unlink()
    write_entries(tmp_path, {"anna": {"embedding": VALUES, "llm_embedding": np.zeros(count, np.float32)}})
    if count:
        with pytest.raises(CheckpointError, match=f"the llm_embedding of speaker 'anna' has {count} numbers"):
            read_voices(tmp_path)
    else:
        assert not len(read_voices(tmp_path).get("anna").llm_embedding)  # type: ignore[arg-type]


def test_a_file_of_the_older_format_names_the_command_that_writes_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "spk2info.pt"
    torch.save({"anna": {"embedding": TENSOR}}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="write it anew: python -c") as e:
        read_voices(tmp_path)
    command = shlex.split(re.sub(r".*anew: ", "", str(e.value)))
    subprocess.run([sys.executable, *command[1:]], check=True, timeout=120)
    np.testing.assert_array_equal(read_voices(tmp_path).get("anna").embedding, VALUES)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["a"]), "has an array of dtype 'U1'; there are numbers only"),
        (np.array([{}], object), "has an array of dtype 'O8'"),
        (VALUES.astype(">f4"), "numbers begin with their largest byte"),
        (np.float32, r"names numpy\.float32"),
    ],
)
def test_arrays_of_other_things_are_refused(value: Any, message: str, tmp_path: Path) -> None:
    torch.save({"anna": {"embedding": value}}, tmp_path / "spk2info.pt")
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(tmp_path / "spk2info.pt")


def test_one_list_at_many_places_does_not_grow(tmp_path: Path) -> None:
    long = [0.5] * 50_000
    torch.save({str(index): {"embedding": long} for index in range(100)}, tmp_path / "spk2info.pt")
    with pytest.raises(CheckpointError, match="has more than 4000000 numbers in lists; save them as tensors"):
        read_voices(tmp_path)
