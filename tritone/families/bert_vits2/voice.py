"""The part of a checkpoint that reads requests: its speakers, its configuration, and its BERT encoders if any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.config import BERT_CHANNELS, BertVits2Config
from tritone.families.bert_vits2.text.bert import BertFeatures
from tritone.families.bert_vits2.text.filler import BY_VERSION

LISTED = 20
"""The number of speakers that an error lists."""


class Voice:
    """Speakers, configuration and BERT features of one checkpoint.

    Args:
        folders: BERT encoders by language. A text in a language without an encoder gets filler in all three streams,
            the same filler that the checkpoint was trained with in the streams of other languages:
            `train.bert_filler`, or that of its version.
    """

    def __init__(self, config: BertVits2Config, folders: Mapping[str, Path]) -> None:
        self.config = config
        names = config.data.spk2id or {str(row): row for row in range(config.data.n_speakers)}
        self.speakers = dict(sorted(names.items(), key=lambda item: item[1]))
        self.bert = BertFeatures(folders, no_bert=True, channels=BERT_CHANNELS)
        self.filler = str(config.train.get("bert_filler", "")) or BY_VERSION[config.version]

    def sid(self, name: str) -> int:
        """Return the id of a speaker, by default the first; raise InvalidRequest for an unknown name."""
        if not name:
            return next(iter(self.speakers.values()))
        if name not in self.speakers:
            known = list(self.speakers)
            more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
            raise InvalidRequest(
                "speaker", f"unknown speaker {name!r}; the speakers are {', '.join(known[:LISTED])}{more}"
            )
        return self.speakers[name]
