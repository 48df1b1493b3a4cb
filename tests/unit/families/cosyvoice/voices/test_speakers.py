"""Voices from every layout of spk2info.pt, read without torch and without running anything."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tritone.checkpoint.torch_file import read_torch_file
from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.cosyvoice.published import V2
from tritone.families.cosyvoice.speak.request import check_codes
from tritone.families.cosyvoice.voices.speakers import Voices, read_voices, write_voices
from tritone.families.cosyvoice.voices.voice import Voice


class Code:
    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, ("hacked", os.O_CREAT)


def save(folder: Path, entries: object) -> None:
    torch.save(entries, folder / "spk2info.pt")


def test_a_fine_tuned_speaker_is_an_embedding(tmp_path: Path) -> None:
    embedding = torch.randn(1, 192)
    save(tmp_path, {"anna": {"embedding": embedding}})
    voice = read_voices(tmp_path).get("anna")
    np.testing.assert_array_equal(voice.embedding, embedding[0].numpy())
    assert voice.prompt_text is None and not len(voice.speech_token) and voice.mel.shape == (0, 80)


def test_a_cached_zero_shot_prompt(tmp_path: Path) -> None:
    mel = torch.randn(1, 14, 80)
    entry = {
        "prompt_text": torch.tensor([[5, 6]], dtype=torch.int32),
        "prompt_text_len": torch.tensor([2]),
        "llm_prompt_speech_token": torch.arange(7)[None],
        "flow_prompt_speech_token": torch.arange(7)[None],
        "prompt_speech_feat": mel,
        "llm_embedding": torch.zeros(1, 192),
        "flow_embedding": torch.ones(1, 192),
    }
    save(tmp_path, {"bob": entry, "cross": {k: v for k, v in entry.items() if not k.startswith("llm_prompt")}})
    voice = read_voices(tmp_path).get("bob")
    assert voice.prompt_ids.tolist() == [5, 6] and voice.prompt_text is None
    assert voice.llm_speech_token.tolist() == voice.speech_token.tolist() == list(range(7))
    np.testing.assert_array_equal(voice.mel, mel[0].numpy())
    assert voice.embedding.tolist() == [1.0] * 192
    assert not len(read_voices(tmp_path).get("cross").llm_speech_token), "the language model has no prompt of its own"


def test_the_written_layout_reads_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voice = Voice(
        "001",
        rng.standard_normal(192).astype(np.float32),
        prompt_text="<|rms|><|endofprompt|>",
        speech_token=np.arange(5),
        mel=rng.standard_normal((10, 80)).astype(np.float32),
    )
    write_voices(tmp_path, [voice, Voice("000", voice.embedding)])
    voices = read_voices(tmp_path)
    found = voices.get("001")
    assert voices.names == ["000", "001"] and found.prompt_text == voice.prompt_text
    np.testing.assert_array_equal(found.embedding, voice.embedding)
    np.testing.assert_array_equal(found.mel, voice.mel)
    assert found.speech_token.tolist() == found.llm_speech_token.tolist() == [0, 1, 2, 3, 4]
    official = torch.load(tmp_path / "spk2info.pt", weights_only=True)["001"]
    assert official["embedding"].shape == (1, 192) and official["speech_feat"].shape == (1, 10, 80)


def test_a_checkpoint_without_the_file_has_no_voices(tmp_path: Path) -> None:
    assert read_voices(tmp_path).names == []


def test_an_unknown_speaker_is_told_which_there_are() -> None:
    embedding = np.zeros(192, np.float32)
    with pytest.raises(InvalidRequest, match="INVALID_ARGUMENT: speaker: unknown speaker 'zoe'; available: a, b"):
        Voices([Voice("b", embedding), Voice("a", embedding)]).get("zoe")
    with pytest.raises(InvalidRequest, match="available: none; send reference audio instead"):
        Voices().get("zoe")


def test_wrong_entries_are_named(tmp_path: Path) -> None:
    save(tmp_path, {"anna": {"x": torch.zeros(3)}})
    with pytest.raises(CheckpointError, match="speaker 'anna' has no embedding of 192 numbers; it has x"):
        read_voices(tmp_path)
    save(tmp_path, {"anna": {"embedding": torch.zeros(192), "speech_feat": torch.zeros(1, 3, 79)}})
    with pytest.raises(CheckpointError, match=r"speech_feat of speaker 'anna' has shape \[1, 3, 79\]"):
        read_voices(tmp_path)
    save(tmp_path, {"anna": {"embedding": torch.full((192,), torch.nan)}})
    with pytest.raises(CheckpointError, match="embedding of speaker 'anna' has NaN or infinite numbers"):
        read_voices(tmp_path)
    save(tmp_path, {"anna": "a name"})
    with pytest.raises(CheckpointError, match="speaker 'anna' is a str; expected a dict with an embedding, or"):
        read_voices(tmp_path)
    save(tmp_path, [torch.zeros(192)])
    with pytest.raises(CheckpointError, match="holds a list, not a dict of speakers"):
        read_voices(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.bool, torch.uint8])
def test_tensors_of_any_shape_are_read_as_torch_reads_them(tmp_path: Path, dtype: torch.dtype) -> None:
    base = torch.arange(24).reshape(2, 3, 4).to(dtype)
    tensors = {"plain": base, "view": base.transpose(0, 2)[1:, :, 1], "empty": base[:0], "scalar": base[1, 2, 3]}
    save(tmp_path, tensors)
    found = read_torch_file(tmp_path / "spk2info.pt")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


@pytest.mark.parametrize("name", ["speech_token", "llm_speech_token"])
def test_a_prompt_of_another_tokenizers_codes_is_refused(name: str) -> None:
    config = V2
    voice = Voice("anna", np.zeros(192, np.float32))
    check_codes(replace(voice, **{name: np.array([0, 6560])}), config, "speaker")
    for code in (6561, -1):
        message = rf"speaker: the prompt of voice 'anna' has speech token {code}; this checkpoint's are 0 to 6560, so"
        with pytest.raises(InvalidRequest, match=message):
            check_codes(replace(voice, **{name: np.array([3, code])}), config, "speaker")


def test_files_with_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, {"anna": Code()})
    with pytest.raises(CheckpointError, match=r"holds more than data and was not loaded: it names (posix|nt)\.open"):
        read_voices(tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "spk2info.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        read_torch_file(path)
    save(tmp_path, {"anna": {"embedding": torch.zeros(1, 192)}})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CheckpointError, match=r"truncated or not a file of torch\.save"):
        read_voices(tmp_path)


def test_a_tensor_outside_its_storage_is_refused() -> None:
    import pickle

    from tritone.checkpoint.torch_file import _rebuild

    storage = np.arange(6, dtype=np.float32)
    assert _rebuild(storage, 1, (2, 2), (2, 1)).tolist() == [[1, 2], [3, 4]]
    for offset, size, stride in ((0, (7,), (1,)), (5, (2,), (1,)), (0, (2,), (6,)), (-1, (2,), (1,)), (3, (2,), (-1,))):
        with pytest.raises(pickle.UnpicklingError):
            _rebuild(storage, offset, size, stride)


def test_reading_voices_and_text_needs_no_torch(tiny_v2: Path) -> None:
    program = (
        "import sys\n"
        "from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint\n"
        "from tritone.families.cosyvoice.voices.speakers import read_voices\n"
        "from tritone.families.cosyvoice.speak.text import TextFrontend\n"
        "from tritone.lm.sampling import tokens\n"
        "CosyVoiceCheckpoint(sys.argv[1]); TextFrontend(sys.argv[1]).encode('hi')\n"
        "assert read_voices(sys.argv[1]).names == ['a', 'b']\n"
        "assert not {'torch', 'transformers', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tiny_v2)], check=True, timeout=60)
