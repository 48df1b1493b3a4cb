"""The voices of a checkpoint: an embedding each, and for zero-shot voices the prompt they speak after.

Three layouts of an entry are in use and all are read: `embedding` alone (fine-tuned speakers), a whole cached zero-shot
prompt with `llm_` and `flow_` keys, and `embedding` with `prompt_text`, `speech_token`, `speech_feat`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import CheckpointError, InvalidRequest
from tritone.families.cosyvoice.flow.prompt_states import PromptStates
from tritone.families.cosyvoice.voices.cache import VoiceCache
from tritone.families.cosyvoice.voices.speaker_file import Entry, edit_entries, find_file, read_entries, write_entries
from tritone.families.cosyvoice.voices.voice import Voice

EMBEDDING = 192
"""Numbers of a speaker's embedding, in every version."""


class Voices:
    """The voices of one checkpoint by name; a checkpoint without the file has none.

    `recent` keeps the voices of recordings sent with requests, `prompts` the states of streams after their prompts.
    """

    def __init__(self, voices: Iterable[Voice] = ()) -> None:
        self._voices = {voice.name: voice for voice in voices}
        self.recent = VoiceCache()
        self.prompts = PromptStates()

    @property
    def names(self) -> list[str]:
        return sorted(self._voices)

    def get(self, name: str) -> Voice:
        """Return the voice of that name. Raises InvalidRequest that lists the names there are."""
        if name not in self._voices:
            known = ", ".join(self.names) or "none; send reference audio instead"
            raise InvalidRequest("speaker", f"unknown speaker {name[:60]!r}; available: {known}")
        return self._voices[name]


def read_voices(model_dir: Path | str) -> Voices:
    """Return the voices in the directory's file of voices, or no voices if it has none."""
    path = find_file(model_dir)
    return (
        Voices(read_voice(name, entry, path) for name, entry in read_entries(model_dir).items()) if path else Voices()
    )


def write_voices(model_dir: Path | str, voices: Iterable[Voice]) -> None:
    """Write `spk2info.pt` with the given voices and no others, in the order of their names."""
    write_entries(model_dir, {voice.name: plain_entry(voice) for voice in sorted(voices, key=lambda v: v.name)}, "pt")


def add_voice(model_dir: Path | str, name: str, entry: Entry, *, replace: bool = False, kind: str = "") -> None:
    """Add one entry, leaving the others unchanged; CheckpointError if the name is taken and not to be replaced."""
    if not name.strip():
        raise CheckpointError("a voice needs a name.")
    with edit_entries(model_dir, kind) as entries:
        if name in entries and not replace:
            raise CheckpointError(f"{model_dir} already has a voice {name!r}; add --replace to overwrite it.")
        entries[name] = entry


def remove_voice(model_dir: Path | str, name: str) -> None:
    """Remove one entry; CheckpointError lists the existing names if it is not among them."""
    with edit_entries(model_dir) as entries:
        if name not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise CheckpointError(f"{model_dir} has no voice {name!r}; it has {known}.")
        del entries[name]


def plain_entry(voice: Voice) -> Entry:
    """Return an entry with `embedding`, and with the prompt as text if the voice has one."""
    entry: Entry = {"embedding": voice.embedding.astype(np.float32)[None]}
    if voice.prompt_text is not None:
        entry["prompt_text"] = voice.prompt_text
    if len(voice.speech_token):
        entry["speech_token"] = voice.speech_token.astype(np.int64)[None]
    if len(voice.mel):
        entry["speech_feat"] = voice.mel.astype(np.float32)[None]
    return entry


def zero_shot_entry(voice: Voice) -> Entry:
    """Return an entry in the published layout of a zero-shot voice: everything but the text, ready for the networks.

    It has no `embedding`, so it cannot be mistaken for a fine-tuned speaker.
    """
    entry: Entry = {}
    for key, value in (
        ("prompt_text", voice.prompt_ids.astype(np.int32)),
        ("llm_prompt_speech_token", voice.llm_speech_token.astype(np.int32)),
        ("flow_prompt_speech_token", voice.speech_token.astype(np.int32)),
        ("prompt_speech_feat", voice.mel.astype(np.float32)),
    ):
        entry[key] = value[None]
        entry[f"{key}_len"] = np.array([len(value)], np.int32)
    embedding = voice.embedding.astype(np.float32)[None]
    return entry | {"llm_embedding": embedding, "flow_embedding": embedding.copy()}


def read_voice(name: str, entry: Mapping[str, Any], path: Path) -> Voice:
    """Return a voice from an entry of any of the three layouts; CheckpointError names a value that does not fit."""

    def array(keys: tuple[str, ...], dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        for key in keys:
            if isinstance(entry.get(key), np.ndarray):
                value = entry[key].astype(dtype)
                if not np.isfinite(value).all():
                    raise CheckpointError(f"{path}: {key} of speaker {name!r} has NaN or infinite numbers.")
                if value.size % max(1, int(np.prod([n for n in shape if n > 0]))):
                    raise CheckpointError(f"{path}: {key} of speaker {name!r} has shape {list(value.shape)}.")
                return value.reshape(shape)
        return np.zeros([max(n, 0) for n in shape], dtype)

    embedding = array(("embedding", "flow_embedding"), np.float32, (-1,))
    if not len(embedding):
        found = ", ".join(sorted(map(str, entry))) or "nothing"
        raise CheckpointError(f"{path}: speaker {name!r} has no embedding of {EMBEDDING} numbers; it has {found}.")
    own = array(("llm_embedding",), np.float32, (-1,)) if "llm_embedding" in entry else None
    for what, vector in (("embedding", embedding), ("llm_embedding", own)):
        if vector is not None and len(vector) not in ((EMBEDDING,) if vector is embedding else (0, EMBEDDING)):
            raise CheckpointError(
                f"{path}: the {what} of speaker {name!r} has {len(vector)} numbers; a speaker's embedding here has "
                f"{EMBEDDING}. Make it anew from a recording: tritone voices {path.parent} add {name} --wav FILE"
            )
    text = entry.get("prompt_text")
    return Voice(
        name,
        embedding,
        prompt_text=text if isinstance(text, str) else None,
        prompt_ids=array(("prompt_text",), np.int64, (-1,)),
        speech_token=array(("flow_prompt_speech_token", "speech_token"), np.int64, (-1,)),
        llm_speech_token=array(("llm_prompt_speech_token", "speech_token"), np.int64, (-1,)),
        mel=array(("prompt_speech_feat", "speech_feat"), np.float32, (-1, 80)),
        llm_embedding=own,
        trained="embedding" in entry,
    )
