"""What a request is read with: the checkpoint's speakers, its configuration, and BERT encoders where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritone.errors import InvalidRequest
from tritone.families.bert_vits2.config import BERT_CHANNELS, BertVits2Config
from tritone.families.bert_vits2.text.bert import BertFeatures
from tritone.families.bert_vits2.text.filler import BY_VERSION

BERT_FOLDERS = {
    "ZH": ("ZH", "chinese-roberta-wwm-ext-large"),
    "JP": ("JP", "deberta-v2-large-japanese-char-wwm"),
    "EN": ("EN", "deberta-v3-large"),
}
"""Where each language's encoder may lie, below `bert/` of the checkpoint's folder."""


class Voice:
    """Speakers, configuration and BERT features of one checkpoint.

    Args:
        folders: of BERT encoders by language. The text of a language without one is given filler in all three streams,
            as the checkpoint was trained to see in streams a text is not in: `train.bert_filler`, or its version's.
    """

    def __init__(self, config: BertVits2Config, folders: Mapping[str, Path]) -> None:
        self.config = config
        names = config.data.spk2id or {str(row): row for row in range(config.data.n_speakers)}
        self.speakers = dict(sorted(names.items(), key=lambda item: item[1]))
        self.bert = BertFeatures(folders, no_bert=True, channels=BERT_CHANNELS)
        self.filler = str(config.train.get("bert_filler", "")) or BY_VERSION[config.version]

    def sid(self, name: str) -> int:
        """Return the speaker's row in the table, of "" the first speaker's; InvalidRequest names those there are."""
        if not name:
            return next(iter(self.speakers.values()))
        if name not in self.speakers:
            known = list(self.speakers)
            more = f" and {len(known) - 20} more" if len(known) > 20 else ""
            raise InvalidRequest("speaker", f"there is no speaker {name!r}; there are {', '.join(known[:20])}{more}")
        return self.speakers[name]


def bert_folders(checkpoint: Path) -> dict[str, Path]:
    """Return the BERT encoders that lie in the checkpoint's folder, by language."""
    found = {}
    for language, names in BERT_FOLDERS.items():
        present = [checkpoint / "bert" / name for name in names if (checkpoint / "bert" / name).is_dir()]
        if present:
            found[language] = present[0]
    return found
