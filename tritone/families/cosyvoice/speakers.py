"""The voices of a checkpoint (`spk2info.pt`): an embedding each, and for zero-shot voices the prompt they speak after.

Three layouts are in use and all are read: `embedding` alone (fine-tuned speakers), a whole cached zero-shot prompt with
`llm_` and `flow_` keys, and `embedding` with `prompt_text`, `speech_token`, `speech_feat`. The last is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.cosyvoice.checkpoint import SPEAKERS
from tritone.torch_file import read_torch_file


def _no_tokens() -> np.ndarray:
    return np.zeros(0, np.int64)


def _no_frames() -> np.ndarray:
    return np.zeros((0, 80), np.float32)


@dataclass(frozen=True, eq=False)
class Voice:
    """What makes a voice: float32 `embedding` `[192]`, and optionally the prompt every sentence continues.

    Args:
        prompt_text: text before the target text; may begin with special tokens (`<|name|><|endofprompt|>`).
        prompt_ids: the same as text ids, in files that store those instead, int64 `[text]`.
        speech_token: the prompt's speech tokens for the flow, int64 `[speech_tokens]`.
        llm_speech_token: the prompt's speech tokens for the language model; usually the same.
        mel: the prompt's mel, float32 `[frames, 80]`.
    """

    name: str
    embedding: np.ndarray
    prompt_text: str | None = None
    prompt_ids: np.ndarray = field(default_factory=_no_tokens)
    speech_token: np.ndarray = field(default_factory=_no_tokens)
    llm_speech_token: np.ndarray = field(default_factory=_no_tokens)
    mel: np.ndarray = field(default_factory=_no_frames)


class Voices:
    """The voices of one checkpoint by name; a checkpoint without the file has none."""

    def __init__(self, voices: Iterable[Voice] = ()) -> None:
        self._voices = {voice.name: voice for voice in voices}

    @property
    def names(self) -> list[str]:
        return sorted(self._voices)

    def get(self, name: str) -> Voice:
        """The voice of that name. Raises InvalidRequest that lists the names there are."""
        if name not in self._voices:
            known = ", ".join(self.names) or "none; send reference audio instead"
            raise InvalidRequest("speaker", f"unknown speaker {name[:60]!r}; available: {known}")
        return self._voices[name]


def read_voices(model_dir: Path | str) -> Voices:
    """The voices in the directory's `spk2info.pt`, none when there is no such file."""
    path = Path(model_dir) / SPEAKERS
    if not path.exists():
        return Voices()
    entries = read_torch_file(path)
    if not isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise CheckpointError(f"{path} is not a dict of speakers, each a dict.")
    return Voices(_voice(str(name), entry, path) for name, entry in entries.items())


def write_voices(model_dir: Path | str, voices: Iterable[Voice]) -> None:
    """Writes `spk2info.pt` with the given voices, in the order of their names."""
    import torch

    from tritone.checkpoint import write_atomic

    entries: dict[str, dict[str, Any]] = {}
    for voice in sorted(voices, key=lambda v: v.name):
        entry: dict[str, Any] = {"embedding": torch.from_numpy(voice.embedding.astype(np.float32)[None].copy())}
        if voice.prompt_text is not None:
            entry["prompt_text"] = voice.prompt_text
        if len(voice.speech_token):
            entry["speech_token"] = torch.from_numpy(voice.speech_token.astype(np.int64)[None].copy())
        if len(voice.mel):
            entry["speech_feat"] = torch.from_numpy(voice.mel.astype(np.float32)[None].copy())
        entries[voice.name] = entry
    write_atomic(Path(model_dir) / SPEAKERS, lambda file: torch.save(entries, file))


def _voice(name: str, entry: Mapping[str, Any], path: Path) -> Voice:
    """A voice from any of the three layouts."""

    def array(keys: tuple[str, ...], dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        for key in keys:
            if isinstance(entry.get(key), np.ndarray):
                value = entry[key].astype(dtype)
                if value.size % max(1, int(np.prod([n for n in shape if n > 0]))):
                    raise CheckpointError(f"{path}: {key} of speaker {name!r} has shape {list(value.shape)}.")
                return value.reshape(shape)
        return np.zeros([max(n, 0) for n in shape], dtype)

    embedding = array(("embedding", "flow_embedding"), np.float32, (-1,))
    if embedding.shape != (192,):
        found = ", ".join(sorted(map(str, entry))) or "nothing"
        raise CheckpointError(f"{path}: speaker {name!r} has no embedding of 192 numbers; it has {found}.")
    text = entry.get("prompt_text")
    speech = array(("flow_prompt_speech_token", "speech_token"), np.int64, (-1,))
    return Voice(
        name,
        embedding,
        prompt_text=text if isinstance(text, str) else None,
        prompt_ids=array(("prompt_text",), np.int64, (-1,)),
        speech_token=speech,
        llm_speech_token=array(("llm_prompt_speech_token", "speech_token"), np.int64, (-1,)),
        mel=array(("prompt_speech_feat", "speech_feat"), np.float32, (-1, 80)),
    )
