"""Self-attention written once for a whole utterance and for a stream of chunks, with one mask rule for both.

The state of an attention layer is its past keys and values `[batch, heads, past, 2 x head_dim]`, empty at the start of
an utterance. Steps and states begin on the chunk grid, so positions may be counted from the oldest key in the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -3e4
"""The score added to masked keys: finite in fp16, and a row with every key masked stays a number."""


def attention_bias(
    queries: int,
    past: int,
    chunk_size: Tensor,
    left_chunks: int,
    valid: Tensor | None = None,
    masked: float = MASKED,
) -> Tensor:
    """Return the bias of scores `[batch or 1, 1, queries, past + queries]`: 0 where a query attends, else `masked`.

    Position i attends to j when j's chunk is not after i's and, with `left_chunks` >= 0, at most that many before it.

    Args:
        chunk_size: int64 `[1]`, positions per chunk; larger than the sequence for full attention.
        valid: bool `[batch, past + queries]`, False on padding keys.
    """
    positions = torch.arange(past + queries, device=chunk_size.device)
    chunk = torch.div(positions, chunk_size, rounding_mode="floor")
    key_chunk, query_chunk = chunk[None, :], chunk[past:, None]
    visible = key_chunk <= query_chunk
    if left_chunks >= 0:
        visible = visible & (key_chunk >= query_chunk - left_chunks)
    visible = visible[None]
    if valid is not None:
        visible = visible & valid[:, None, :]
    return torch.where(visible, 0.0, masked)[:, None]


def extend(key: Tensor, value: Tensor, state: Tensor | None, keep: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return keys and values behind the past ones, and the next state: the last `keep` positions (all if negative)."""
    if state is None:
        return key, value, None
    both = torch.cat((state, torch.cat((key, value), dim=-1)), dim=2)
    key, value = both.chunk(2, dim=-1)
    if keep == 0:
        return key, value, both[:, :, :0]
    return key, value, both if keep < 0 else both[:, :, -keep:]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return `[batch, frames, heads x dim]` as `[batch, heads, frames, dim]`."""
    # Not unflatten: tracing exporters take the sizes of everything computed from its result for constants.
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention of `[batch, frames, dim]` without positions."""

    def __init__(self, dim: int, heads: int, head_dim: int, keep: int) -> None:
        super().__init__()
        self.heads, self.scale, self.keep = heads, head_dim**-0.5, keep
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_k = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_v = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(heads * head_dim, dim)])

    def forward(self, x: Tensor, bias: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the output and the next state; `bias` comes from `attention_bias`."""
        query = split_heads(self.to_q(x), self.heads)
        key, value = split_heads(self.to_k(x), self.heads), split_heads(self.to_v(x), self.heads)
        key, value, state = extend(key, value, state, self.keep)
        return self.to_out[0](weigh(self.scale * query @ key.transpose(2, 3) + bias, value)), state


class RelativeAttention(nn.Module):
    """Multi-head self-attention of `[batch, frames, dim]` with relative positions (Dai et al. 2019, section 3.3)."""

    def __init__(self, dim: int, heads: int, keep: int) -> None:
        super().__init__()
        self.heads, self.scale, self.keep = heads, (dim // heads) ** -0.5, keep
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, dim // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, dim // heads))

    def forward(
        self, x: Tensor, bias: Tensor, distances: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output and the next state; `distances` comes from `distance_embedding`."""
        query = split_heads(self.linear_q(x), self.heads)
        key, value = split_heads(self.linear_k(x), self.heads), split_heads(self.linear_v(x), self.heads)
        key, value, state = extend(key, value, state, self.keep)
        content = self.scale * (query + self.pos_bias_u[:, None]) @ key.transpose(2, 3)
        by_distance = self.by_distance(self.scale * (query + self.pos_bias_v[:, None]), distances)
        return self.linear_out(weigh(content + shift_distances(by_distance, key.shape[2]) + bias, value)), state

    def by_distance(self, query: Tensor, distances: Tensor) -> Tensor:
        """Return scores `[batch, heads, queries, distances]` of every distance, masked or not."""
        return query @ split_heads(self.linear_pos(distances)[None], self.heads).transpose(2, 3)


class SteppingAttention(RelativeAttention):
    """`RelativeAttention` for few queries and a long past.

    Distances are not projected to the heads; the queries are projected back. What that costs grows with the queries
    and not with the past: for one query over a thousand keys it is a thousandth.
    """

    def by_distance(self, query: Tensor, distances: Tensor) -> Tensor:
        weight = self.linear_pos.weight.reshape(self.heads, -1, distances.shape[1])
        return query @ weight @ distances.transpose(0, 1)


def weigh(scores: Tensor, value: Tensor) -> Tensor:
    """Return values averaged by the softmax of their scores, heads side by side: `[batch, queries, heads x dim]`."""
    return (torch.softmax(scores, dim=-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)


def shift_distances(scores: Tensor, keys: int) -> Tensor:
    """Return scores by key `[batch, heads, queries, keys]` from scores by distance `[..., keys + queries - 1]`.

    Row i needs the columns from queries - 1 - i on. One column of padding makes every row of the flattened matrix one
    longer, so reading it at the old width moves each row by one more than the row before.
    """
    flat = nn.functional.pad(scores, (1, 0)).flatten(2)
    return flat[:, :, scores.shape[2] :].reshape_as(scores)[:, :, :, :keys]
