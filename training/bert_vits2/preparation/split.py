"""The split into training and validation utterances, and the configuration with their files and speakers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.bert_vits2.data.arrays import room
from training.bert_vits2.data.filelist import LANGUAGES, Utterance, write_lines
from tritone.build.files import write_atomic
from tritone.checkpoint.documents import read_object
from tritone.errors import ConfigError
from tritone.families.bert_vits2.config import parse_config


def split(
    utterances: Sequence[Utterance], per_language: int = 4, total: int = 12, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """Return (training, validation) utterances in the given order.

    The first `per_language` of a seeded ranking are held out of each language; languages take turns until `total` are
    held out, and each keeps at least one utterance to train on. A recording's rank depends on the seed and its name
    alone, so the validation utterances hardly change when a corpus grows.
    """
    if per_language < 0 or total < 0:
        raise ConfigError(f"cannot hold out {per_language} utterances per language, {total} in total.")
    ranked = {
        language: sorted((u for u in utterances if u.language == language), key=lambda u: _rank(seed, u.wav))
        for language in LANGUAGES
    }
    turns = [
        ranked[language][turn].wav
        for turn in range(per_language)
        for language in LANGUAGES
        if turn < len(ranked[language]) - 1
    ]
    held = set(turns[:total])
    return [u for u in utterances if u.wav not in held], [u for u in utterances if u.wav in held]


def speaker_ids(names: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    """Return an id for each name: known names keep theirs, new ones get the smallest free ids in alphabetic order."""
    ids = dict(known)
    free = (i for i in range(len(ids) + len(names) + 1) if i not in set(known.values()))
    for name in sorted(set(names) - set(ids)):
        ids[name] = next(free)
    return ids


def write_split(
    utterances: Sequence[Utterance], out: Path, config: Path, per_language: int = 4, total: int = 12, seed: int = 0
) -> str:
    """Write `train.list`, `val.list` and `config.json` into `out`, and return a summary.

    The new configuration is `config` with files and speakers. `n_speakers` grows if there are more speakers than
    before, and otherwise stays the same, because it is the size of a base model's table.
    """
    if not config.is_file():
        raise ConfigError(f"{config} does not exist; --config takes the configuration to start from.")
    document = read_object(config)
    before = parse_config(document).data
    training, validation = split(utterances, per_language, total, seed)
    ids = speaker_ids([u.speaker for u in utterances], before.spk2id)
    needed = max(ids.values()) + 1
    files = {"training_files": str(out / "train.list"), "validation_files": str(out / "val.list")}
    rows = max(needed, before.n_speakers) if "n_speakers" in document.get("data", {}) else needed
    document["data"] = document.get("data", {}) | files | {"spk2id": ids, "n_speakers": rows}
    parse_config(document)
    with room(out):
        write_lines(out / "train.list", (u.line() for u in training))
        write_lines(out / "val.list", (u.line() for u in validation))
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        write_atomic(out / "config.json", lambda file: file.write(text.encode()))
    counts = ", ".join(
        f"{sum(u.language == n for u in training)} + {sum(u.language == n for u in validation)} {n}" for n in LANGUAGES
    )
    grown = f" (n_speakers was {before.n_speakers})" if rows != before.n_speakers else ""
    return f"{out}: {counts} utterances to train on + to validate with, {len(ids)} speakers{grown}"


def _rank(seed: int, wav: str) -> bytes:
    return hashlib.sha256(f"{seed}|{wav}".encode()).digest()
