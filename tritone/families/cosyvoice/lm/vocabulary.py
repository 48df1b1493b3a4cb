"""The merged vocabulary of the prompts that a language-model engine receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritone.families.cosyvoice.config.common import LmConfig


@dataclass(frozen=True)
class Vocabulary:
    """The ranges of ids in the merged vocabulary: speech, then the two markers, then text.

    Speech ids (codes and stop ids) are unchanged, `sos` and `task_id` follow, and text id t becomes `text + t`. In v3
    the markers are speech ids, so text follows the speech directly.

    Args:
        speech: rows of the speech head and embedding.
        codes: the number of codes, after which the markers follow in v3; None if the markers have their own table.
    """

    speech: int
    codes: int | None = None

    @property
    def sos(self) -> int:
        return self.speech if self.codes is None else self.codes

    @property
    def task_id(self) -> int:
        return self.speech + 1 if self.codes is None else self.codes + 2

    @property
    def text(self) -> int:
        return self.speech + 2 if self.codes is None else self.speech

    def prompt(self, text: Sequence[int], speech: Sequence[int] = ()) -> list[int]:
        """Return the merged ids of [sos, text, task_id, speech]."""
        return [self.sos, *self.text_ids(text), self.task_id, *speech]

    def text_ids(self, text: Sequence[int]) -> list[int]:
        """Return the merged ids of text ids."""
        return [self.text + t for t in text]


def vocabulary(config: LmConfig) -> Vocabulary:
    """Return the merged vocabulary of that language model."""
    return Vocabulary(config.head_size, config.first_marker)
