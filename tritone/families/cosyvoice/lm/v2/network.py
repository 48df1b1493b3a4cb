"""The speech-token language model: a Qwen2 backbone between text tokens and speech tokens (CosyVoice 2, section 2.3).

A sequence is [sos, text, task_id, speech ...]; text ids are embedded by the backbone's own table, speech ids by
`speech_embedding`, the two markers by `llm_embedding` or, in v3, as the speech ids they are there. The head
`llm_decoder` scores the speech codes and the stop ids after each position from task_id on. Keys are the official ones
(`llm.model.model.*`, `llm.model.lm_head.weight`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from tritone.checkpoint.weights import built, load_strict
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary, vocabulary


class Backbone(nn.Module):
    """The causal LM under the official key prefix."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.model = Qwen2ForCausalLM(config)


class SpeechLM(nn.Module):
    """Scores the next speech token, `[batch, positions, head_size]`, after embedded sequences.

    Args:
        backbone: the Qwen2 `config.json` as a dict; its hidden size must be `config.hidden_size`.
    """

    def __init__(self, config: LmConfig, backbone: Mapping[str, Any]) -> None:
        super().__init__()
        qwen = qwen_config(backbone)
        if qwen.hidden_size != config.hidden_size:
            raise CheckpointError(
                f"the backbone's hidden_size is {qwen.hidden_size}, but llm_input_size is {config.hidden_size} in the "
                f"checkpoint's YAML: config.json belongs to another model."
            )
        self.config = config
        inline = config.first_marker is not None
        self.llm_embedding = None if inline else nn.Embedding(2, config.hidden_size)
        self.llm = Backbone(qwen)
        self.llm_decoder = nn.Linear(config.hidden_size, config.head_size, bias=not inline)
        self.speech_embedding = nn.Embedding(config.head_size, config.hidden_size)

    def embed(self, text: Tensor, speech: Tensor) -> Tensor:
        """Return [sos, text, task_id, speech] `[batch, 2 + text + speech, hidden]` of ids without padding."""
        sos, task_id = (marker.expand(text.shape[0], 1, -1) for marker in self.markers())
        embedded = self.llm.model.model.embed_tokens(text)
        return torch.cat((sos, embedded, task_id, self.speech_embedding(speech)), dim=1)

    def markers(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings `[hidden]` of sos and task_id."""
        ids = vocabulary(self.config)
        return self._row(ids.sos), self._row(ids.task_id)

    def _row(self, index: int) -> Tensor:
        """Return the embedding `[hidden]` of a merged id."""
        for table in self.tables():
            if index < table.num_embeddings:
                return table.weight[index]
            index -= table.num_embeddings
        raise IndexError("the id is not in the merged vocabulary")

    def tables(self) -> list[nn.Embedding]:
        """Return the embedding tables in the order of the merged vocabulary: speech, own markers if any, text."""
        tables = (self.speech_embedding, self.llm_embedding, self.llm.model.model.embed_tokens)
        return [table for table in tables if table is not None]

    def hidden(self, embedded: Tensor, mask: Tensor | None = None, cache: Any = None) -> tuple[Tensor, Any]:
        """Return the last hidden states (after the final norm) and the key-value cache.

        Args:
            embedded: `[batch, positions, hidden]`; padding, if any, is on the right.
            mask: `[batch, positions]`, 1 for real positions; None if all are real.
            cache: the cache returned by the previous call, or a new `DynamicCache()`; None for no cache.
        """
        output = self.llm.model.model(
            inputs_embeds=embedded, attention_mask=mask, past_key_values=cache, use_cache=cache is not None
        )
        return output.last_hidden_state, output.past_key_values

    def forward(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits `[batch, positions, head_size]` after each position."""
        return self.llm_decoder(self.hidden(embedded, mask)[0])

    def log_probs(self, text: Tensor, speech: Tensor) -> Tensor:
        """Return teacher-forced log-probabilities `[batch, speech + 1, head_size]`.

        Row i is the distribution of speech id i.

        Args:
            text: prompt text and target text together, ids `[batch, text]`.
            speech: ids `[batch, speech]`; the last row is the distribution of the next id.
        """
        logits = self.forward(self.embed(text, speech))
        return torch.log_softmax(logits[:, text.shape[1] + 1 :], dim=-1)


def qwen_config(backbone: Mapping[str, Any]) -> Qwen2Config:
    """Return the transformers configuration of a Qwen2 `config.json`, without its dtype and architectures."""
    kind = backbone.get("model_type")
    if kind != "qwen2":
        raise CheckpointError(f"the backbone's config.json has model_type {kind!r}; only 'qwen2' is supported.")
    kept = {key: value for key, value in backbone.items() if key not in ("torch_dtype", "dtype", "architectures")}
    return Qwen2Config(**kept)


def load_lm(checkpoint: CosyVoiceCheckpoint) -> SpeechLM:
    """Return the checkpoint's language model, in eval mode, float32."""
    state = checkpoint.state("llm")
    # Fine-tuned files may lack the text head, which is tied to the embedding and never used.
    state.setdefault("llm.model.lm_head.weight", state.get("llm.model.model.embed_tokens.weight", torch.empty(0)))
    backbone = checkpoint.backbone
    return built(lambda: SpeechLM(checkpoint.config.lm, backbone), state, checkpoint.path("llm.pt")).eval()


def merge_vocabulary(lm: SpeechLM) -> tuple[Qwen2ForCausalLM, Tensor | None, Vocabulary]:
    """Return a plain causal LM over one vocabulary that computes the same as `lm`, for exporters of such models.

    Returns (model, head_bias, vocabulary). The model's embedding has the rows [speech ids | sos, task_id | text ids];
    v3, whose markers are speech ids, has no middle rows. The first `head_size` logits plus `head_bias` `[head_size]`
    are the speech logits; the others (markers and text) are zero and must be cut off before sampling. The bias (None in
    v3) is returned beside the model because Qwen2 heads have none: a runner adds it to the logits. Speech ids come
    first so that a head can be cut to its first `head_size` rows without renumbering.
    """
    size = lm.config.head_size
    table = torch.cat([table.weight for table in lm.tables()])
    config = Qwen2Config(**(lm.llm.model.config.to_dict() | {"vocab_size": len(table), "tie_word_embeddings": False}))
    with torch.device("meta"):
        merged = Qwen2ForCausalLM(config)
    head = torch.zeros_like(table)
    head[:size] = lm.llm_decoder.weight
    state = {f"model.{key}": value for key, value in lm.llm.model.model.state_dict().items()}
    state |= {"model.embed_tokens.weight": table, "lm_head.weight": head}
    merged.to_empty(device="cpu")
    with torch.no_grad():
        merged.model.rotary_emb = type(merged.model.rotary_emb)(config=config)  # its buffers are not in the state
    load_strict(merged, {key: value.detach() for key, value in state.items()}, Path("merged vocabulary"))
    bias: Tensor | None = lm.llm_decoder.bias
    return merged.eval(), None if bias is None else bias.detach().clone(), vocabulary(lm.config)
