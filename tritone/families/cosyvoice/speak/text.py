"""Text to the language model's ids: the official tokenizer, or phones for checkpoints that were trained on them.

Also the writer of a phoneme tokenizer in the official directory layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tritone.checkpoint.documents import read_object
from tritone.checkpoint.sizes import VOCABULARY, whole
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import BACKBONE, load_config
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.lm import special_tokens
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT, END_OF_TEXT
from tritone.text.paragraph import bounded, paragraphs
from tritone.text.phonemes import SYMBOLS, phonemize
from tritone.text.reading.english import in_words
from tritone.text.split import split_text
from tritone.text.spoken_form import has_chinese, has_special_tokens, spoken_form
from tritone.text.tokenizer import TextTokenizer
from tritone.text.whisper_tokenizer import WhisperTokenizer

SPECIAL_TOKENS = special_tokens.V2
_LEADING_TAGS = re.compile(r"(?:<\|[^|<>]+\|>)*")


class TextFrontend:
    """Turns request text into text ids `[0, vocabulary)` of the checkpoint's language model.

    `kind` is "whisper" (v1), "qwen" (v2, v3) or "phonemes" (checkpoints of our own recipe in the v2 layout).

    The tokenizer is read when it is first used: describing a checkpoint needs no package that reads one.
    """

    def __init__(self, model_dir: Path | str, config: CosyVoiceConfig | None = None) -> None:
        config = config or load_config(model_dir)
        self.kind, self.version = config.text_frontend, config.version
        # The tokenizer and the prompts that the published Qwen2 models were trained with.
        self.alternates = self.kind == "qwen"
        self.system_prompt = self.version.system_prompt if self.alternates else ""
        self._model_dir, self._config = Path(model_dir), config

    @property
    def reads_phones(self) -> bool:
        """True if the model reads phones, which can be made of words alone."""
        return self.kind == "phonemes"

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's `TextTokenizer`; in v1 a `WhisperTokenizer`.

        Raises:
            CheckpointError: the tokenizer's files are missing, damaged, or not of the size the model was trained with.
        """
        if self.kind == "whisper":
            return self._whisper()
        directory, own = self._model_dir / BACKBONE, self.version.special_tokens
        tokenizer = TextTokenizer(directory, own)
        if self.alternates:
            check_base(directory, tokenizer, own)
        file = directory / "config.json"
        sizes = read_object(file, kind=CheckpointError)
        rows = whole(sizes.get("vocab_size"), f"{file}: vocab_size", VOCABULARY, CheckpointError)
        if len(tokenizer) > rows:
            raise CheckpointError(f"{directory} has {len(tokenizer)} text tokens but its config.json says {rows}.")
        return tokenizer

    def _whisper(self) -> WhisperTokenizer:
        tokenizer = WhisperTokenizer(self._model_dir)
        rows = int(getattr(self._config.lm, "text_token_size", len(tokenizer)))
        if rows != len(tokenizer):
            raise CheckpointError(
                f"{self._model_dir} was trained on {rows} text tokens; Whisper's tokenizer has {len(tokenizer)}, "
                f"and no other is known for the v1 layout (its 25 Hz variant is not supported)."
            )
        return tokenizer

    def normalize(self, text: str) -> str:
        """Return the text with numbers and symbols put in words; unchanged if it contains `<|...|>`.

        Phones are made of text as it is: `encode` reads its numbers as well.
        """
        return text if self.reads_phones else spoken_form(text)

    def segments(self, text: str, normalize: bool = True) -> list[list[int]]:
        """Return the ids of the text's segments in order; each is synthesised on its own.

        As published, text with `<|...|>` is neither rewritten nor divided, unless it is longer than any segment may be.
        Numbers are put in words before the text is divided, so no cut lies within one.

        Args:
            normalize: put numbers in words and divide the text; False treats it like text with `<|...|>`.
        """
        if self.reads_phones:
            return [self.encode(segment) for segment in split_text(in_words(text))]
        chinese = has_chinese(text)

        def length(piece: str) -> int:
            return len(piece) if chinese else len(self.tokenizer.encode(piece))

        if normalize and not has_special_tokens(text):
            pieces = paragraphs(self.normalize(text), length, chinese)
        else:
            pieces = bounded(text, length)
        return [self.encode(piece) for piece in pieces]

    def stream(self, parts: Iterable[str]) -> Iterator[int]:
        """Yield the ids of text that arrives in pieces; no piece is rewritten or joined to the next."""
        for part in parts:
            yield from self.encode(part)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text to speak.

        Raises InvalidRequest when the phoneme front end finds nothing to speak.
        """
        if self.reads_phones:
            return encode_symbols(self.tokenizer, phonemize(text))
        return list(self.tokenizer.encode(text))

    def encode_prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt, which may begin with special tokens such as `<|name|><|endofprompt|>`."""
        if not self.reads_phones:
            return self.encode(text)
        tags = _LEADING_TAGS.match(text)
        head = tags.group() if tags else ""
        rest = text[len(head) :].strip()
        return [*self.tokenizer.encode(head), *(self.encode(rest) if rest else [])]

    def speaker_prompt(self, name: str) -> str | None:
        """Return the prompt that asks for a voice by name, None when the checkpoint has no tag for it."""
        tag = speaker_tag(name)
        return tag + END_OF_PROMPT if self.tokenizer.token_to_id(tag) is not None else None


def check_base(directory: Path, tokenizer: TextTokenizer, own: Sequence[str]) -> None:
    """Raise CheckpointError unless the model's own special tokens have the ids it was trained with."""
    base, found = special_tokens.BASE_SIZE, tokenizer.token_to_id(END_OF_PROMPT)
    size = base + len(own[own.index(END_OF_PROMPT) :])
    if found != base or len(tokenizer) != size:
        raise CheckpointError(
            f"the text tokenizer {directory} gives {END_OF_PROMPT} the id {found} and has {len(tokenizer)} entries; "
            f"the model was trained with id {base} and {size} entries, on Qwen2's own tokenizer of {base}. "
            f"Use the files that came with the checkpoint."
        )


def encode_symbols(tokenizer: TextTokenizer, symbols: Sequence[str]) -> list[int]:
    """Return the ids of phoneme symbols; KeyError names one that the tokenizer does not have."""
    ids = [tokenizer.token_to_id(f"[{symbol}]") for symbol in symbols]
    for symbol, index in zip(symbols, ids, strict=True):
        if index is None:
            raise KeyError(f"the text tokenizer has no symbol [{symbol}]")
    return [index for index in ids if index is not None]


def speaker_tag(name: str) -> str:
    """Return the special token that names a voice."""
    return f"<|{name}|>"


def build_phoneme_tokenizer(
    model_dir: Path | str, speakers: Sequence[str], backbone: dict[str, Any], symbols: Sequence[str] = SYMBOLS
) -> dict[str, Any]:
    """Write `CosyVoice-BlankEN/` with a phoneme tokenizer and the backbone's config.json; return that configuration.

    The vocabulary is the 256 bytes (so any text has ids), the published special tokens, one token per phoneme symbol
    and one tag per speaker; `vocab_size` is rounded up to a multiple of 64.

    Args:
        backbone: sizes of the Qwen2 network: hidden_size, num_hidden_layers, num_attention_heads,
            num_key_value_heads, intermediate_size (and any other key of Qwen2's config.json).
    """
    directory = Path(model_dir) / BACKBONE
    directory.mkdir(parents=True, exist_ok=True)
    added = [END_OF_TEXT, *SPECIAL_TOKENS, *(f"[{symbol}]" for symbol in symbols), *map(speaker_tag, speakers)]
    bytes_first = {character: index for index, character in enumerate(_byte_alphabet())}
    rows = -(-(len(bytes_first) + len(added)) // 64) * 64
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "bos_token_id": len(bytes_first),
        "eos_token_id": len(bytes_first),
    }
    config |= backbone | {"vocab_size": rows}
    decoder = {
        str(len(bytes_first) + index): {"content": token, "special": True}
        | dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
        for index, token in enumerate(added)
    }
    tokenizer_config = {
        "added_tokens_decoder": decoder,
        "additional_special_tokens": added[1:],
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    for name, content in (("vocab", bytes_first), ("tokenizer_config", tokenizer_config), ("config", config)):
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return config


def _byte_alphabet() -> list[str]:
    """Return the 256 printable characters that stand for bytes in byte-level vocabularies, in code point order."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())
