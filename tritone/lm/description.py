"""The description of a family's language model: none, one made of stages, or a causal LM that engines load whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tritone.calls import Call
from tritone.engines.torch_run import TorchRun
from tritone.errors import ConfigError
from tritone.lm.protocols import Llm


@dataclass(frozen=True)
class NoLm:
    """The family has no language model."""


@dataclass(frozen=True)
class StageLm:
    """A language model whose steps are stages; `open(call)` returns it on the engine that runs them."""

    open: Callable[[Call], Llm]


@dataclass(frozen=True)
class CausalLm:
    """A prompt in, a stream of tokens out; never a Stage, because its length is decided by its own output.

    Args:
        vocabulary: rows of the output head; channels: tokens emitted per step.
        limits: named numbers an engine must respect (stop ids, position limit).
        build: returns the torch module, the reference of every other engine.
        open_torch: returns the language model on torch, run as described.
        merged: returns (plain causal LM whose first `vocabulary` ids are the head's and what sessions take, head bias).
        examples: returns prompts of real text, in the ids of `merged`; exports are compared on what follows them.
        huggingface: returns the `tritone.lm.hf_model.HfModel` for engines that load folders of transformers.
    """

    name: str
    vocabulary: int
    channels: int
    limits: Mapping[str, Any]
    build: Callable[[], Any]
    open_torch: Callable[[TorchRun], Llm]
    merged: Callable[[], tuple[Any, Any]] | None = None
    huggingface: Callable[[], Any] | None = None
    examples: Callable[[], Sequence[Sequence[int]]] | None = None


class MissingLm:
    """Stands for a language model that was not opened: decoding with it raises ConfigError with the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def warm_up(self) -> None:
        """Do nothing."""

    def count(self, on_token: Callable[[], None]) -> None:
        """Do nothing: no token is ever decoded."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigError(self._reason)
