"""The torch session: the reference every other language-model engine is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from tritone.families.cosyvoice.lm import SpeechLM
from tritone.families.cosyvoice.vocabulary import vocabulary


class TorchSession:
    """One sequence with its key-value cache; logits come back as float32 `[head_size]`."""

    def __init__(self, lm: SpeechLM) -> None:
        self.lm = lm
        self.vocabulary = vocabulary(lm.config)
        self.cache = DynamicCache()

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Logits after a prompt of merged ids; starts the sequence over."""
        self.cache = DynamicCache()
        return self._forward(self._embed(torch.tensor(list(ids), dtype=torch.int64)))

    def step(self, token: int) -> np.ndarray:
        """Logits after one more speech token."""
        return self.extend([token])

    @torch.inference_mode()
    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Logits after more merged ids, text or speech."""
        return self._forward(self._embed(torch.tensor(list(ids), dtype=torch.int64)))

    def close(self) -> None:
        """Frees the cache."""
        self.cache = DynamicCache()

    def _embed(self, ids: Tensor) -> Tensor:
        """`[positions, hidden]` of merged ids, each from the table that owns it."""
        v, lm = self.vocabulary, self.lm
        owners = [(lm.speech_embedding, 0), (lm.llm.model.model.embed_tokens, v.text)]
        if not lm.config.inline_markers:
            owners.append((lm.llm_embedding, v.sos))
        out = torch.empty(len(ids), lm.config.hidden_size)
        for table, start in owners:
            own = (ids >= start) & (ids < start + table.num_embeddings)
            out[own] = table(ids[own] - start)
        return out

    def _forward(self, embedded: Tensor) -> np.ndarray:
        hidden, self.cache = self.lm.hidden(embedded[None], cache=self.cache)
        return self.lm.llm_decoder(hidden[0, -1]).float().numpy()
