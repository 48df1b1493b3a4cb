"""The language model of v1: a transformer over encoded text, a speaker and speech tokens.

A sequence is [sos, speaker, text, task_id, speech ...]; instructed speech has no speaker row. The keys are those of
the published class, TransformerLM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v1 import TransformerLmConfig
from tritone.families.cosyvoice.conformer import Conformer, Transformer

SOS, TASK_ID = 0, 1


class TransformerLm(nn.Module):
    """All weights of a v1 `llm.pt`, loadable strictly."""

    def __init__(self, config: TransformerLmConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.text_embedding = nn.Embedding(config.text_token_size, config.text_size)
        self.text_encoder = Conformer(config.text_encoder, config.text_size)
        self.text_encoder_affine_layer = nn.Linear(config.text_encoder.dim, hidden)
        self.llm_embedding = nn.Embedding(2, hidden)
        self.llm = Transformer(config.decoder, hidden)
        self.llm_decoder = nn.Linear(config.decoder.dim, config.head_size)
        self.speech_embedding = nn.Embedding(config.speech_token_size, hidden)
        self.spk_embed_affine_layer = nn.Linear(config.spk_embed_dim, hidden)

    def encode_text(self, text: Tensor) -> Tensor:
        """Return encoded text `[batch, text, hidden]` of ids `[batch, text]` without padding."""
        return self.text_encoder_affine_layer(self.text_encoder(self.text_embedding(text)))

    def speaker(self, embedding: Tensor) -> Tensor:
        """Return rows `[1, speakers, hidden]` of embeddings `[speakers, 192]`, which are normalised first."""
        direction = nn.functional.normalize(embedding, dim=1)
        return self.spk_embed_affine_layer(direction.to(self.spk_embed_affine_layer.weight.dtype))[None]

    def prefix(self, text: Tensor, embedding: Tensor) -> Tensor:
        """Return [sos, speaker, text] `[1, 1 + speakers + text, hidden]` of text ids `[1, text]` and embeddings."""
        sos = self.llm_embedding.weight[SOS][None, None]
        return torch.cat((sos, self.speaker(embedding), self.encode_text(text)), dim=1)

    def table(self) -> Tensor:
        """Return embeddings `[head_size + 2, hidden]` of all ids after the prefix: codes, stop ids (zeros), markers."""
        stops = torch.zeros(self.config.extra_ids, self.config.hidden_size)
        return torch.cat((self.speech_embedding.weight, stops, self.llm_embedding.weight)).detach()

    def log_probs(self, text: Tensor, embedding: Tensor, speech: Tensor) -> Tensor:
        """Return teacher-forced log-probabilities `[1, speech + 1, head_size]`.

        Row i is the distribution of speech id i.

        Args:
            text: prompt text and target text together, ids `[1, text]`.
            embedding: `[speakers, 192]`, of one speaker or none.
            speech: ids `[1, speech]`; the last row is the distribution of the next id.
        """
        task = self.llm_embedding.weight[TASK_ID][None, None]
        prefix = self.prefix(text, embedding)
        hidden, _ = self.llm(torch.cat((prefix, task, self.speech_embedding(speech)), dim=1))
        return torch.log_softmax(self.llm_decoder(hidden[:, prefix.shape[1] :]), dim=-1)


class LlmTextEncoder(nn.Module):
    """Stage `llm_text_encoder`: the part of a sequence before its speech."""

    full_precision_inputs = ("embedding",)

    def __init__(self, lm: TransformerLm) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, text_token: Tensor, embedding: Tensor) -> Tensor:
        return self.lm.prefix(text_token, embedding)


class LlmStep(nn.Module):
    """Stage `llm_step`: scores of the next speech id after a prefix, ids, and the keys and values of earlier positions.

    The first step of a sequence has the prefix and an empty state; all later steps have an empty prefix.
    """

    def __init__(self, lm: TransformerLm) -> None:
        super().__init__()
        self.llm, self.llm_decoder = lm.llm, lm.llm_decoder
        self.table = nn.Parameter(lm.table(), requires_grad=False)

    def forward(self, prefix: Tensor, token: Tensor, kv_state: Tensor) -> tuple[Tensor, Tensor]:
        embedded = torch.cat((prefix, nn.functional.embedding(token, self.table)), dim=1)
        hidden, after = self.llm(embedded, kv_state)
        assert after is not None  # a step from a state has a next state
        return self.llm_decoder(hidden[:, -1]), after
