"""The language model's text tokenizer, from its published files, without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tritone.errors import CheckpointError
from tritone.families.moss_ttsd.dialogue import SPEAKERS, prompt_text


class DialogueTokenizer:
    """Prompts to ids."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError when files are missing or do not know the markers of a prompt."""
        self._encode = _open(folder)
        markers = [
            *SPEAKERS.values(),
            *(part + ">" for part in prompt_text("").replace("\n", "").split(">") if "<|" in part),
        ]
        broken = [marker for marker in markers if len(self.encode(marker[marker.index("<") :])) != 1]
        if broken:
            raise CheckpointError(
                f"the tokenizer in {folder} does not know {', '.join(broken)}; it is not that of a dialogue model"
            )

    def encode(self, text: str) -> list[int]:
        """Return Ids of the text; markers written in it count as such."""
        return list(self._encode(text))


def _open(folder: Path) -> Any:
    """Return a function from text to ids: of `tokenizer.json`, or of `vocab.json` and `merges.txt`."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        from tritone.text.tokenizer import TextTokenizer

        return TextTokenizer(folder).encode
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
