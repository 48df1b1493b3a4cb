"""The text encoder (VITS, section 2.2): phones, tones, languages and three BERT streams to the prior of every phone."""

from __future__ import annotations

import math

from torch import Tensor, nn

from tritone.families.bert_vits2.config import BERT_CHANNELS, ModelConfig
from tritone.families.bert_vits2.networks.encoder import Encoder
from tritone.families.bert_vits2.text.symbols import LANGUAGES, NUM_TONES, SYMBOLS


class Encoding(nn.Module):
    """Embeds phones, tones, languages and BERT features, and encodes them; keys as in published checkpoints.

    All three BERT streams are always summed, because the networks were trained with filler in unused ones; the caller
    chooses the filler (see `text.filler`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.scale, self.inter = math.sqrt(hidden), config.inter_channels
        self.emb = nn.Embedding(len(SYMBOLS), hidden)
        self.tone_emb = nn.Embedding(NUM_TONES, hidden)
        self.language_emb = nn.Embedding(len(LANGUAGES), hidden)
        for table in (self.emb, self.tone_emb, self.language_emb):
            nn.init.normal_(table.weight, 0.0, hidden**-0.5)
        self.bert_proj = nn.Conv1d(BERT_CHANNELS, hidden, 1)
        self.ja_bert_proj = nn.Conv1d(BERT_CHANNELS, hidden, 1)
        self.en_bert_proj = nn.Conv1d(BERT_CHANNELS, hidden, 1)
        self.add_emotion(hidden)
        self.encoder = Encoder(
            hidden,
            config.filter_channels,
            config.n_heads,
            config.n_layers,
            config.kernel_size,
            config.p_dropout,
            config.gin_channels,
        )
        self.proj = nn.Conv1d(hidden, 2 * config.inter_channels, 1)

    def add_emotion(self, hidden: int) -> None:
        """Add the layers of the version's emotion input, in their place among the keys."""

    def embedded(
        self, x: Tensor, tone: Tensor, language: Tensor, bert: Tensor, ja_bert: Tensor, en_bert: Tensor
    ) -> Tensor:
        """Return the sum `[batch, hidden, phones]` of the embeddings and features of each phone."""
        ids = (self.emb(x) + self.tone_emb(tone) + self.language_emb(language)).transpose(1, 2)
        return ids + (self.bert_proj(bert) + self.ja_bert_proj(ja_bert) + self.en_bert_proj(en_bert))

    def encoded(self, embedded: Tensor, mask: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return encoded phones `[batch, hidden, phones]`, and mean and log deviation `[batch, inter, phones]`."""
        encoded = self.encoder(embedded * self.scale, mask, g)
        statistics = self.proj(encoded) * mask
        return encoded, statistics[:, : self.inter], statistics[:, self.inter :]


class TextEncoder(Encoding):
    """The text encoder of 2.0 and 2.3, which takes no emotion."""

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        tone: Tensor,
        language: Tensor,
        bert: Tensor,
        ja_bert: Tensor,
        en_bert: Tensor,
        g: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return encoded phones `[batch, hidden, phones]`, and mean and log deviation of the prior.

        Both have the shape `[batch, inter, phones]`.

        Args:
            x, tone, language: ids, int64 `[batch, phones]`.
            mask: `[batch, 1, phones]`, 1 where a phone exists.
            bert, ja_bert, en_bert: Chinese, Japanese, English features, `[batch, 1024, phones]`.
            g: speaker, `[batch, gin, 1]`.
        """
        return self.encoded(self.embedded(x, tone, language, bert, ja_bert, en_bert), mask, g)
