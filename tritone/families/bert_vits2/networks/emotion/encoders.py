"""The text encoders of versions 2.1 and 2.2, which add one vector of the utterance's emotion to every phone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.bert_vits2.config import ModelConfig
from tritone.families.bert_vits2.emotion import CLUSTERS, NONE, PROMPTS, UNSAVED, Emotion
from tritone.families.bert_vits2.networks.emotion.quantizer import Quantizer, prompt_features
from tritone.families.bert_vits2.networks.text_encoder import Encoding, TextEncoder

PROMPT_INNER, PROMPT_HEADS, PROMPT_CODES, PROMPT_CODE_WIDTH = 1028, 32, 64, 32


def text_encoder(kind: Emotion, config: ModelConfig) -> Encoding:
    """Return the text encoder of a version's kind of emotion."""
    kinds = {NONE: TextEncoder, CLUSTERS: ClusterEncoder, UNSAVED: UnsavedEncoder, PROMPTS: PromptEncoder}
    return kinds[kind](config)


class ClusterEncoder(Encoding):
    """The text encoder of 2.1: an embedding becomes one of ten codes, or the code is chosen by its number."""

    def add_emotion(self, hidden: int) -> None:
        """Add the layers of the emotion."""
        width = CLUSTERS.numbers
        self.emo_proj = nn.Linear(width, width)
        self.emo_quantizer = Quantizer(width, 1, CLUSTERS.clusters, width, learned=True)
        self.emo_q_proj = nn.Linear(width, hidden)

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
        emotion: Tensor,
        emotion_id: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return encoded phones and the prior, as `TextEncoder`.

        Args:
            emotion: float `[batch, 1024]`.
            emotion_id: int64 `[batch]`, a code's number, or -1 for the code nearest to `emotion`.
        """
        nearest = self.emo_quantizer(self.emo_proj(emotion))
        chosen = self.emo_quantizer.code(emotion_id[:, None].clamp(min=0))
        code = torch.where(emotion_id[:, None] >= 0, chosen, nearest)
        embedded = self.embedded(x, tone, language, bert, ja_bert, en_bert) + self.emo_q_proj(code)[:, :, None]
        return self.encoded(embedded, mask, g)


class UnsavedEncoder(Encoding):
    """The text encoder of 2.1 from a file without the codebook, whose codes were small numbers around zero.

    The published code draws another codebook at every start; here the mean of what it draws is added.
    """

    def add_emotion(self, hidden: int) -> None:
        """Add the layers of the emotion that are in the file."""
        self.emo_proj = nn.Linear(CLUSTERS.numbers, CLUSTERS.numbers)
        self.emo_q_proj = nn.Linear(CLUSTERS.numbers, hidden)

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
        """Return encoded phones and the prior, as `TextEncoder`."""
        embedded = self.embedded(x, tone, language, bert, ja_bert, en_bert) + self.emo_q_proj.bias[:, None]
        return self.encoded(embedded, mask, g)


class PromptEncoder(Encoding):
    """The text encoder of 2.2: an embedding of CLAP passes a quantiser of 32 heads."""

    def add_emotion(self, hidden: int) -> None:
        """Add the layers of the emotion."""
        width = PROMPTS.numbers
        self.in_feature_net = prompt_features(width, PROMPT_INNER)
        self.emo_vq = Quantizer(width, PROMPT_HEADS, PROMPT_CODES, PROMPT_CODE_WIDTH, learned=False)
        self.out_feature_net = nn.Linear(width, hidden)

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
        emotion: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return encoded phones and the prior, as `TextEncoder`.

        Args:
            emotion: float `[batch, 512]`.
        """
        felt = self.out_feature_net(self.emo_vq(self.in_feature_net(emotion)))
        return self.encoded(self.embedded(x, tone, language, bert, ja_bert, en_bert) + felt[:, :, None], mask, g)
