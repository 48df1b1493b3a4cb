"""The rules of decoding speech tokens: how ids are drawn, which ones end a sequence, and how long it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SamplingConfig:
    """Repetition-aware sampling: nucleus `top_p`/`top_k`, and the window in which a repeat forces a full draw."""

    top_p: float = 0.8
    top_k: int = 25
    win_size: int = 10
    tau_r: float = 0.1


class SpeechRules(Protocol):
    """The part of a language model's configuration that concerns its speech tokens.

    Ids are rows of the speech head. `stop_ids` end a sequence; `early_ids` are excluded before the minimum length.
    """

    @property
    def min_token_text_ratio(self) -> float:
        """The smallest number of speech tokens per text token."""
        ...

    @property
    def max_token_text_ratio(self) -> float:
        """The largest number of speech tokens per text token."""
        ...

    @property
    def sampling(self) -> SamplingConfig:
        """The settings of the sampler."""
        ...

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end a sequence."""
        ...

    @property
    def early_ids(self) -> tuple[int, ...]:
        """The ids excluded before the minimum length."""
        ...
