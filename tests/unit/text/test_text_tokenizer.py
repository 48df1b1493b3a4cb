"""Text to ids: equal to transformers' own tokenizer, special ids as published, and the phoneme checkpoints' layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.cosyvoice.checkpoint.folder import BACKBONE, YAML, write_checkpoint
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.families.cosyvoice.published import V2
from tritone.families.cosyvoice.speak.request import read_frontend
from tritone.families.cosyvoice.speak.text import (
    SPECIAL_TOKENS,
    TextFrontend,
    build_phoneme_tokenizer,
    encode_symbols,
)
from tritone.text.phonemes import BREAKS, SYMBOLS, WORD_BOUNDARY, phonemize
from tritone.text.reading.english import in_words
from tritone.text.tokenizer import TextTokenizer

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
}
TEXTS = [
    "Hello there, it's 25 degrees.",
    "  two  spaces\n\nnew\tlines ",
    "你好，世界！ naïve e\u0301",
    "[breath]so<strong>loud</strong><|endofprompt|> [unknown] <|im_end|>",
    "",
]


@pytest.fixture(scope="module")
def phoneme_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    write_checkpoint(folder, replace(V2, text_frontend="phonemes"), {})
    build_phoneme_tokenizer(folder, ["rms", "slt"], dict(SIZES))
    return folder


def reference(folder: Path) -> object:
    """transformers' tokenizer with the special tokens added the way the published code adds them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(SPECIAL_TOKENS), special_tokens=True)
    return tokenizer


@pytest.mark.parametrize("kind", ["official", "phonemes"])
def test_ids_equal_those_of_transformers(kind: str, tiny_v2: Path, phoneme_dir: Path) -> None:
    folder = (tiny_v2 if kind == "official" else phoneme_dir) / BACKBONE
    own, theirs = TextTokenizer(folder, SPECIAL_TOKENS), reference(folder)
    assert len(own) == len(theirs)  # type: ignore[arg-type]
    for text in [*TEXTS, "<|rms|><|endofprompt|>[h][ˈaɪ][.]"]:
        assert own.encode(text) == theirs(text)["input_ids"], text  # type: ignore[operator]


def test_merges_apply(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"h": 0, "i": 1, "hi": 2, "Ġ": 3, "Ġhi": 4}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh i\nĠ hi\n")
    assert TextTokenizer(tmp_path).encode("hi hi") == [2, 4]


def test_special_ids_are_the_published_ones(tiny_v2: Path) -> None:
    tokenizer = TextTokenizer(tiny_v2 / BACKBONE, SPECIAL_TOKENS)
    expected = {"<|endoftext|>": 151643, "<|endofprompt|>": 151646, "[breath]": 151647, "[mn]": 151662}
    assert {token: tokenizer.token_to_id(token) for token in expected} == expected
    assert len(tokenizer) == 151663


def test_decoding_returns_the_text(tiny_v2: Path) -> None:
    tokenizer = TextTokenizer(tiny_v2 / BACKBONE, SPECIAL_TOKENS)
    assert tokenizer.decode(tokenizer.encode("naïve [breath] text")) == "naïve [breath] text"


def test_broken_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no vocab\.json; it has no files"):
        TextTokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"has no merges\.txt; it has vocab\.json"):
        TextTokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextTokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"7": {"content": "<|x|>"}}}')
    with pytest.raises(CheckpointError, match=r"says <\|x\|> is id 7, but its vocabulary makes it 1"):
        TextTokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"1": {"content": "\\ud800"}}}')
    with pytest.raises(CheckpointError, match=r"special tokens of .* cannot be read: .*surrogates not allowed"):
        TextTokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"x": {}}}')
    with pytest.raises(CheckpointError, match=r"special tokens of the text tokenizer .* cannot be read"):
        TextTokenizer(tmp_path)


def test_the_phoneme_vocabulary_is_small_and_complete(phoneme_dir: Path) -> None:
    front = TextFrontend(phoneme_dir)
    config = json.loads((phoneme_dir / BACKBONE / "config.json").read_text())
    assert len(front.tokenizer) == 256 + 1 + 19 + 75 + 2 and config["vocab_size"] == 384
    ids = encode_symbols(front.tokenizer, SYMBOLS)
    assert len(set(ids)) == len(SYMBOLS) and max(ids) < config["vocab_size"]
    with pytest.raises(KeyError, match=r"no symbol \[x\]"):
        encode_symbols(front.tokenizer, ["x"])


def test_phoneme_text_is_one_id_per_symbol(phoneme_dir: Path) -> None:
    front = TextFrontend(phoneme_dir)
    symbols = phonemize("Hello, world!")
    assert front.encode("Hello, world!") == encode_symbols(front.tokenizer, symbols)
    assert front.tokenizer.decode(front.encode("hi")) == "[h][ˈaɪ][.]"
    tags = [front.tokenizer.token_to_id("<|rms|>"), front.tokenizer.token_to_id("<|endofprompt|>")]
    assert front.encode_prompt("<|rms|><|endofprompt|>") == tags
    assert front.encode_prompt("<|rms|><|endofprompt|> hi") == tags + front.encode("hi")
    assert front.encode_prompt("hi") == front.encode("hi")
    assert front.speaker_prompt("rms") == "<|rms|><|endofprompt|>" and front.speaker_prompt("nobody") is None


def test_numbers_are_in_words_before_text_is_divided_for_phones(phoneme_dir: Path) -> None:
    front = TextFrontend(phoneme_dir)
    text = "It was in the U.S. $5.99 for 3.5 kg at 10:30 p.m. on No. 5 and 1,234 others came to us by 9:45 a.m. today."
    spoken = in_words(text)
    assert not any(character.isdigit() for character in spoken)
    breaks = encode_symbols(front.tokenizer, [*BREAKS, WORD_BOUNDARY])
    segments = front.segments(text)
    said = [index for segment in segments for index in segment if index not in breaks]
    assert len(segments) > 1 and said == [index for index in front.encode(spoken) if index not in breaks]


def test_phones_cannot_do_without_the_front_end(phoneme_dir: Path) -> None:
    front = TextFrontend(phoneme_dir)
    assert read_frontend({}, front) and read_frontend({"text_frontend": np.array([[True]])}, front)
    with pytest.raises(InvalidRequest, match="text_frontend: cannot be false: this checkpoint reads phones"):
        read_frontend({"text_frontend": np.array([[False]])}, front)


def test_a_tag_in_the_text_to_speak_is_not_obeyed(phoneme_dir: Path) -> None:
    front = TextFrontend(phoneme_dir)
    assert front.tokenizer.token_to_id("<|slt|>") not in front.encode("<|slt|> hello")
    with pytest.raises(InvalidRequest, match="no word that can be spoken"):
        front.encode("<|>")


def test_the_official_front_end_leaves_text_alone(tiny_v2: Path) -> None:
    front = TextFrontend(tiny_v2)
    assert front.encode("hi[breath]") == front.tokenizer.encode("hi[breath]") == front.encode_prompt("hi[breath]")


def test_more_tokens_than_embedding_rows_are_refused(phoneme_dir: Path, tmp_path: Path) -> None:
    (tmp_path / BACKBONE).mkdir()
    for file in (phoneme_dir / BACKBONE).iterdir():
        (tmp_path / BACKBONE / file.name).write_bytes(file.read_bytes())
    (tmp_path / YAML).write_bytes((phoneme_dir / YAML).read_bytes())
    (tmp_path / BACKBONE / "config.json").write_text('{"vocab_size": 300}')
    with pytest.raises(CheckpointError, match=r"has 353 text tokens but its config\.json says 300"):
        _ = TextFrontend(tmp_path).tokenizer


def test_the_merged_vocabulary_puts_speech_first() -> None:
    vocabulary = Vocabulary(6564)
    assert vocabulary.prompt([0, 5], [7]) == [6564, 6566, 6571, 6565, 7]
