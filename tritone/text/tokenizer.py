"""Qwen2 text tokenizers from their published files, through the light `tokenizers` library (no transformers)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tritone.checkpoint.documents import VOCABULARY, check_size, read_json
from tritone.errors import CheckpointError

# How Qwen2 cuts text before byte-pair merging; part of the published tokenizer's definition.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TextTokenizer:
    """Text to ids and back, from a directory with `vocab.json`, `merges.txt` and `tokenizer_config.json`.

    Args:
        additional: special tokens the model was trained with beyond those in the files, added in this order.
    """

    def __init__(self, directory: Path | str, additional: Iterable[str] = ()) -> None:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

        self.dir = Path(directory)
        files = [self.dir / name for name in ("vocab.json", "merges.txt")]
        for file in files:
            if not file.is_file():
                present = sorted(p.name for p in self.dir.iterdir()) if self.dir.is_dir() else []
                raise CheckpointError(
                    f"the text tokenizer {self.dir} has no {file.name}; it has {', '.join(present) or 'no files'}."
                )
        model = read_files(partial(models.BPE.from_file, byte_fallback=False), *files)
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = normalizers.NFC()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN2_SPLIT), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._tokenizer.decoder = decoders.ByteLevel()
        for index, token in sorted(_added_tokens(self.dir).items()):
            self._tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
            if self._tokenizer.token_to_id(token) != index:
                raise CheckpointError(
                    f"the text tokenizer {self.dir} says {token} is id {index}, but its vocabulary makes it "
                    f"{self._tokenizer.token_to_id(token)}; its files do not belong together."
                )
        self._tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in additional])

    def __len__(self) -> int:
        """Return how many ids there are, special ones included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Return Ids of the text; special tokens written in it count as such."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return text of the ids, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def definition(self) -> dict[str, Any]:
        """Return the whole tokenizer as the `tokenizers` library writes it to `tokenizer.json`, additional tokens
        included.
        """
        return dict(json.loads(self._tokenizer.to_str()))

    def token_to_id(self, token: str) -> int | None:
        """Return the id of one whole token, None when there is no such token."""
        index = self._tokenizer.token_to_id(token)
        return None if index is None else int(index)


def read_files(read: Callable[..., Any], *files: Path) -> Any:
    """Return the result of a function of the `tokenizers` library that reads files; CheckpointError if it fails."""
    for file in files:
        check_size(file, VOCABULARY, CheckpointError)
    try:
        return read(*map(str, files))
    except BaseException as error:
        # On some damaged files the library ends with a panic, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        names = " and ".join(file.name for file in files)
        raise CheckpointError(f"the text tokenizer {files[0].parent} cannot be read from {names}: {error}") from error


def _whole(token: object) -> str:
    """Return a token as text; ValueError for one with half of a surrogate pair, which JSON can hold."""
    text = str(token)
    text.encode()
    return text


def _added_tokens(directory: Path) -> dict[int, str]:
    """Special tokens by id from `tokenizer_config.json`, or from the older `added_tokens.json`."""
    config = directory / "tokenizer_config.json"
    try:
        if config.is_file():
            entries = read_json(config, VOCABULARY, CheckpointError).get("added_tokens_decoder", {})
            if entries:
                return {int(index): _whole(entry["content"]) for index, entry in entries.items()}
        older = directory / "added_tokens.json"
        if older.is_file():
            return {int(index): _whole(token) for token, index in read_json(older, VOCABULARY, CheckpointError).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"the special tokens of the text tokenizer {directory} cannot be read: {error}"
        ) from error
    return {}
