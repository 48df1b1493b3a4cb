"""The language model's text tokenizer, read from its published files without transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from tritone.errors import CheckpointError
from tritone.families.moss_ttsd.dialogue import SPEAKERS, prompt_text


class DialogueTokenizer:
    """Turns prompts into ids; its files are read when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _encode(self) -> Callable[[str], list[int]]:
        """The function from text to ids; CheckpointError when files are missing or lack the markers of a prompt."""
        encode = _open(self._folder)
        markers = [
            *SPEAKERS.values(),
            *(part + ">" for part in prompt_text("").replace("\n", "").split(">") if "<|" in part),
        ]
        missing = [marker for marker in markers if len(encode(marker[marker.index("<") :])) != 1]
        if missing:
            raise CheckpointError(
                f"the tokenizer in {self._folder} lacks {', '.join(missing)}; use the tokenizer of a dialogue model"
            )
        return encode

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text; a marker in it becomes its own id."""
        return self._encode(text)


def _open(folder: Path) -> Callable[[str], list[int]]:
    """Return the function from text to ids that `tokenizer.json` describes, or `vocab.json` with `merges.txt`."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        from tritone.text.tokenizer import TextTokenizer

        return TextTokenizer(folder).encode
    from tokenizers import Tokenizer

    from tritone.text.tokenizer import read_files

    tokenizer = read_files(Tokenizer.from_file, path)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
