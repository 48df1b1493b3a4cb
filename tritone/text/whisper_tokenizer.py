"""Whisper's multilingual byte-pair tokenizer, from the vocabulary file that its published package carries."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tritone.checkpoint.documents import VOCABULARY as VOCABULARY_BYTES
from tritone.checkpoint.documents import check_size
from tritone.errors import CheckpointError, EnvironmentProblem

VOCABULARY = "multilingual.tiktoken"
MERGEABLE = 50257
PACKAGE = "openai-whisper==20250625"

_LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
)
_TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
# How Whisper cuts text before byte-pair merging; part of the published tokenizer's definition.
_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

SPECIAL_TOKENS: tuple[str, ...] = (
    *("<|endoftext|>", "<|startoftranscript|>"),
    *(f"<|{name}|>" for name in (*_LANGUAGES.split(), *_TASKS)),
    *(f"<|{step * 0.02:.2f}|>" for step in range(1501)),
)
"""Special tokens in id order after the mergeable ones: languages, tasks, then time stamps from 0 to 30 s."""


class WhisperTokenizer:
    """Text to ids and back in the vocabulary of 51866 entries (100 languages); special tokens in the text count.

    Args:
        directory: searched first for `multilingual.tiktoken`; then the installed openai-whisper package is.

    Raises:
        CheckpointError: the file is not the multilingual vocabulary. EnvironmentProblem: file or library is missing.
    """

    def __init__(self, directory: Path | str) -> None:
        self.path = find_vocabulary(Path(directory))
        try:
            import tiktoken
        except ImportError as error:
            raise EnvironmentProblem(
                "Whisper's tokenizer needs the package tiktoken; run: pip install 'tritone[text]'"
            ) from error
        self._special = {token: MERGEABLE + index for index, token in enumerate(SPECIAL_TOKENS)}
        self._encoding: Any = tiktoken.Encoding(
            "multilingual",
            pat_str=_SPLIT,
            mergeable_ranks=read_ranks(self.path),
            special_tokens=self._special,
            explicit_n_vocab=MERGEABLE + len(SPECIAL_TOKENS),
        )

    def __len__(self) -> int:
        """Return how many ids there are, special ones included."""
        return int(self._encoding.n_vocab)

    def encode(self, text: str) -> list[int]:
        """Return Ids of the text; special tokens written in it count as such."""
        return list(self._encoding.encode(text, allowed_special="all"))

    def decode(self, ids: Iterable[int]) -> str:
        """Return text of the ids, special tokens included."""
        return str(self._encoding.decode(list(ids)))

    def token_to_id(self, token: str) -> int | None:
        """Return the id of one special token, None when there is no such token."""
        return self._special.get(token)


def find_vocabulary(directory: Path) -> Path:
    """Return the vocabulary file in the directory or in the installed package.

    EnvironmentProblem says how to get one.
    """
    candidates = [directory / VOCABULARY]
    package = find_spec("whisper")  # finds the folder without importing the package, which would load torch
    if package is not None and package.origin is not None:
        candidates.append(Path(package.origin).parent / "assets" / VOCABULARY)
    for path in candidates:
        if path.is_file():
            return path
    raise EnvironmentProblem(
        f"{directory} needs Whisper's vocabulary {VOCABULARY}, which no checkpoint contains; copy it there, or run: "
        f"pip install --no-deps {PACKAGE} (only the file is used)"
    )


def read_ranks(path: Path) -> dict[bytes, int]:
    """Return the mergeable tokens and their ids; CheckpointError unless it is the multilingual vocabulary of 50257."""
    try:
        check_size(path, VOCABULARY_BYTES, CheckpointError)
        lines = [line.split() for line in path.read_bytes().splitlines() if line.strip()]
        # Not validated: the published file's last token is empty and written as a lone "=".
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not a vocabulary of lines 'base64 rank': {error}") from error
    if sorted(ranks.values()) != list(range(MERGEABLE)) or any(bytes([b]) not in ranks for b in range(256)):
        raise CheckpointError(
            f"{path} has {len(ranks)} tokens, but CosyVoice 1 reads Whisper's multilingual vocabulary of {MERGEABLE} "
            f"(ids 0 to {MERGEABLE - 1}); take {VOCABULARY} from {PACKAGE}"
        )
    return ranks
