"""The torch session: the reference for every other engine of the language model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from tritone.engines.torch_run import TorchRun
from tritone.families.cosyvoice.lm.v2.network import SpeechLM
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.lm.logits import LogitsLm

CPU = TorchRun()


class TorchSession:
    """One sequence with its key-value cache; logits come back as float32 `[head_size]`.

    Args:
        lm: the model, where `how` has placed it.
    """

    def __init__(self, lm: SpeechLM, how: TorchRun = CPU) -> None:
        self.lm, self.how = lm, how
        self.vocabulary = vocabulary(lm.config)
        self.cache = DynamicCache()

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Return logits after a prompt of merged ids; starts the sequence over."""
        self.cache = DynamicCache()
        return self.extend(ids)

    def step(self, token: int) -> np.ndarray:
        """Return logits after one more speech token."""
        return self.extend([token])

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Return logits after more merged ids, text or speech."""
        with self.how.scope():
            return self._forward(self._embed(self.how.entered(np.array(ids, np.int64))))

    def close(self) -> None:
        """Free the cache."""
        self.cache = DynamicCache()

    def _embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings `[positions, hidden]` of merged ids, each from its own table."""
        out = torch.empty(len(ids), self.lm.config.hidden_size, device=ids.device)
        start = 0
        for table in self.lm.tables():
            own = (ids >= start) & (ids < start + table.num_embeddings)
            out[own] = table(ids[own] - start)
            start += table.num_embeddings
        return out

    def _forward(self, embedded: Tensor) -> np.ndarray:
        hidden, self.cache = self.lm.hidden(embedded[None], cache=self.cache)
        return self.lm.llm_decoder(hidden[0, -1]).float().cpu().numpy()


class TorchSessions:
    """Opens sequences on one model, which the first call builds."""

    def __init__(self, build: Callable[[], SpeechLM], how: TorchRun) -> None:
        self._build, self._how = build, how
        self._lm: SpeechLM | None = None
        self._lock = threading.Lock()

    def __call__(self, _conditioning: np.ndarray | None = None) -> TorchSession:
        with self._lock:
            if self._lm is None:
                self._lm = self._how.placed(self._build())
        return TorchSession(self._lm, self._how)


def torch_llm(build: Callable[[], SpeechLM], how: TorchRun = CPU) -> LogitsLm:
    """Return the checkpoint's own language model on torch."""
    return LogitsLm(TorchSessions(build, how))
