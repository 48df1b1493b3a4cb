"""Whisper's tokenizer: ids of the published one, and every way in which its file can be missing or wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.front_helpers import recorded, write_whisper_vocabulary

from tritone.errors import CheckpointError, EnvironmentProblem
from tritone.families.cosyvoice.published import V1
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.text import whisper_tokenizer
from tritone.text.whisper_tokenizer import SPECIAL_TOKENS, WhisperTokenizer, find_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v1")
    write_whisper_vocabulary(folder)
    return folder


def test_ids_are_the_published_ones(folder: Path) -> None:
    tokenizer, golden = WhisperTokenizer(folder), recorded(1)
    assert tokenizer.encode("Hello there.") == golden["text"][0].tolist() == [15947, 456, 13]
    assert tokenizer.encode("I am a prompt text, ok.") == golden["prompt_text"][0].tolist()


def test_special_tokens_stand_where_the_model_was_trained_to_find_them(folder: Path) -> None:
    tokenizer = WhisperTokenizer(folder)
    assert len(tokenizer) == 51866 and len(SPECIAL_TOKENS) == 1609
    expected = {"<|endoftext|>": 50257, "<|en|>": 50259, "<|zh|>": 50260, "<|yue|>": 50358, "<|0.00|>": 50365}
    assert {token: tokenizer.token_to_id(token) for token in expected} == expected
    assert tokenizer.token_to_id("<|30.00|>") == 51865 and tokenizer.token_to_id("<|endofprompt|>") is None
    assert tokenizer.encode("<|en|>Hello") == [50259, *tokenizer.encode("Hello")]


def test_any_text_comes_back(folder: Path) -> None:
    tokenizer = WhisperTokenizer(folder)
    for text in ("naïve 你好，世界！ \n\t x", "<|zh|>a<|endofprompt|>", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_published_package_has_the_file(tmp_path: Path) -> None:
    try:
        path = find_vocabulary(tmp_path)
    except EnvironmentProblem:
        pytest.skip("openai-whisper is not installed")
    assert path.name == "multilingual.tiktoken" and "torch" not in str(path)
    assert WhisperTokenizer(tmp_path).encode("I am a prompt text, ok.") == recorded(1)["prompt_text"][0].tolist()


def test_without_the_file_one_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper_tokenizer, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install --no-deps openai-whisper==20250625"):
        WhisperTokenizer(tmp_path)


def test_without_the_library_one_is_told_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(EnvironmentProblem, match=r"needs the package tiktoken; run: pip install 'tritone\[text\]'"):
        WhisperTokenizer(folder)


def test_other_vocabularies_are_refused(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "multilingual.tiktoken").read_text().splitlines()
    (tmp_path / "multilingual.tiktoken").write_text("\n".join(lines[:-1]))
    with pytest.raises(CheckpointError, match=r"has 50256 tokens, but CosyVoice 1 reads .* of 50257"):
        WhisperTokenizer(tmp_path)
    (tmp_path / "multilingual.tiktoken").write_text("not a vocabulary")
    with pytest.raises(CheckpointError, match="is not a vocabulary of lines 'base64 rank'"):
        WhisperTokenizer(tmp_path)


def test_a_checkpoint_of_another_text_vocabulary_is_refused(folder: Path) -> None:
    from dataclasses import replace

    other = replace(V1, lm=replace(V1.lm, text_token_size=60515))
    with pytest.raises(CheckpointError, match="trained on 60515 text tokens; Whisper's tokenizer has 51866"):
        _ = TextFrontend(folder, other).tokenizer
    assert TextFrontend(folder, V1).segments("Hello there.") == [[15947, 456, 13]]
