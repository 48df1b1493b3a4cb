"""The Asteroid language model: a Qwen3 decoder that takes eight channels of ids in each row and predicts the next row.

A row's embedding is the sum of its channels' embeddings; each channel has a head tied to its embedding. The decoder is
the one in transformers, without its own embedding table, which is never used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, Qwen3Config, Qwen3Model

from tritone.families.moss_ttsd.lm.config import AsteroidConfig
from tritone.nn.attention import MASKED


class AsteroidLM(nn.Module):
    """All weights of a checkpoint, under their published keys."""

    def __init__(self, config: AsteroidConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.model = _Channels(config, attention)

    def embed(self, rows: Tensor) -> Tensor:
        """Return the embeddings `[batch, rows, hidden]` of ids `[batch, rows, channels]`."""
        tables = self.model.embedding_list
        total = tables[0](rows[..., 0])
        for channel in range(1, self.config.channels):
            total = total + tables[channel](rows[..., channel])
        return total

    def heads(self, hidden: Tensor) -> list[Tensor]:
        """Return the logits `[..., ids]` of every channel for hidden rows `[..., hidden]`."""
        return [F.linear(hidden, table.weight) for table in self.model.embedding_list]  # type: ignore[arg-type]

    def forward(self, rows: Tensor, valid: Tensor | None = None, past: DynamicCache | None = None) -> list[Tensor]:
        """Return the logits `[batch, 1, ids]` of every channel after the last row.

        Args:
            rows: ids `[batch, rows, channels]` int64, padded on the left.
            valid: `[batch, past + rows]`, 0 on padding.
            past: keys and values of earlier rows; those of `rows` are appended.
        """
        return self.heads(self.hidden(rows, valid, past)[:, -1:])

    def hidden(self, rows: Tensor, valid: Tensor | None = None, past: DynamicCache | None = None) -> Tensor:
        """Return the hidden rows `[batch, rows, hidden]`; the arguments are those of `forward`."""
        positions = None
        if valid is not None:
            positions = (valid.long().cumsum(1) - 1).clamp(min=0)[:, -rows.shape[1] :]
        output = self.model.language_model(
            inputs_embeds=self.embed(rows),
            attention_mask=valid,
            position_ids=positions,
            past_key_values=past,
            use_cache=past is not None,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


class LmStep(nn.Module):
    """The stage `lm_step`: logits after some rows, given the keys and values of the rows before them.

    Its inputs and outputs are float32, whatever the dtype of the weights.
    """

    def __init__(self, lm: AsteroidLM) -> None:
        super().__init__()
        self.lm = lm
        self.layers = lm.model.language_model.layers
        self.norm, self.tables = lm.model.language_model.norm, lm.model.embedding_list
        self.rotary = Angles(lm.model.language_model.rotary_emb.inv_freq)
        self.dtype = self.norm.weight.dtype
        self.flash = lm.model.language_model.config._attn_implementation == "flash_attention_2"

    def forward(self, rows: Tensor, padding: Tensor, kv_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of channel 0 `[batch, ids]`, of the others `[batch, channels - 1, ids]`, and the next state.

        Args:
            rows: `[batch, rows, channels]` int64.
            padding: `[batch]` int64, the number of all rows so far that are padding.
            kv_state: `[batch, layers, heads, past, 2 x head_dim]`.
        """
        hidden = self.lm.embed(rows)
        past = torch.zeros_like(kv_state[0, 0, 0, :, 0], dtype=torch.int64)
        new = torch.zeros_like(rows[0, :, 0])
        keys = torch.cat((past, new)).add(1).cumsum(0) - 1
        queries = keys[past.shape[0] :]
        seen = (keys[None, :] <= queries[:, None])[None] & (keys[None, None, :] >= padding[:, None, None])
        bias: Tensor | None = torch.where(seen, 0.0, MASKED).to(hidden.dtype)[:, None]
        if self.flash:  # is causal by itself, and takes the keys that are no padding
            bias = (keys >= padding[:, None]).long() if bool(padding.any()) else None
        cosine, sine = self.rotary((queries[None] - padding[:, None]).clamp(min=0))
        angles = cosine.to(hidden.dtype), sine.to(hidden.dtype)
        cache = _Explicit(kv_state if self.dtype == kv_state.dtype else kv_state.to(self.dtype))
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=bias, position_embeddings=angles, past_key_values=cache)
        # The table times the row, not the row times a transposed table: an exported graph would hold that as a copy.
        last = self.norm(hidden[:, -1]).t()
        first, *rest = [(table.weight @ last).t() for table in self.tables]
        speech, state = torch.stack(rest, dim=1), torch.stack(cache.updated, dim=1)
        return (first, speech, state) if self.dtype == torch.float32 else (first.float(), speech.float(), state.float())


class Angles(nn.Module):
    """Cosines and sines `[..., head_dim]` of positions `[...]` in float32, because float16 cannot count thousands."""

    full_precision = True

    def __init__(self, inv_freq: Tensor) -> None:
        super().__init__()
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", inv_freq.detach().clone())

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].to(self.inv_freq.dtype) * self.inv_freq
        both = torch.cat((angles, angles), dim=-1)
        return both.cos(), both.sin()


class _Channels(nn.Module):
    """The part of the checkpoint below "model."."""

    def __init__(self, config: AsteroidConfig, attention: str) -> None:
        super().__init__()
        sizes = [config.vocab_size, *[config.speech_vocab_size] * config.delay]
        self.embedding_list = nn.ModuleList(nn.Embedding(size, config.hidden_size) for size in sizes)
        self.language_model = _decoder(config, attention)


class _Explicit(Cache):
    """A cache that reads past keys and values from a tensor and collects the updated ones in a list."""

    def __init__(self, kv_state: Tensor) -> None:
        self.past, self.updated = kv_state, list[Tensor]()

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return all keys and all values `[batch, heads, past + rows, head_dim]` of a layer."""
        both = torch.cat((self.past[:, layer_idx], torch.cat((key_states, value_states), dim=-1)), dim=2)
        self.updated.append(both)
        keys, values = both.chunk(2, dim=-1)
        return keys, values


def _decoder(config: AsteroidConfig, attention: str) -> Qwen3Model:
    """Return the decoder of transformers without its embedding table."""
    sizes: Any = Qwen3Config(
        vocab_size=1,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        max_position_embeddings=config.max_position_embeddings,
        attention_bias=False,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    sizes._attn_implementation = attention
    decoder = Qwen3Model(sizes)
    decoder.set_input_embeddings(nn.Identity())
    return decoder
