"""The speech LM in the published one-vocabulary layout: text tokens, then the speech ids, then the two markers.

    0 .. text-1               the tokenizer's entries, special tokens included
    text .. text+speech-1     <|s_0|> <|s_1|> ...; the ids after the codes have names of their own (`names`)
    then `markers`            <|sos|> <|task_id|>, which only prompts contain
    then fill                 up to a multiple of 128: zero rows, each with a token of its own

The ids are those of the published conversion. This one also keeps what that one drops: the head's bias, the backbone's
rows after the tokenizer's last entry, a text head that differs from the embedding, and the dtype of every tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from tritone.checkpoint.documents import parse_json
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.families.cosyvoice.speak.text import END_OF_TEXT, TextFrontend
from tritone.lm.hf_model import ROWS, HfModel, HfWeights, identical

if TYPE_CHECKING:
    from torch import Tensor

SOS, TASK_ID = "<|sos|>", "<|task_id|>"
PREFIX = "llm.model."
TEXT, SPEECH, MARKERS = f"{PREFIX}model.embed_tokens.weight", "speech_embedding.weight", "llm_embedding.weight"
TEXT_HEAD = f"{PREFIX}lm_head.weight"
HEAD, HEAD_BIAS = "llm_decoder.weight", "llm_decoder.bias"
EMBED, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}{{ '" + SOS + "' + message.content + '" + TASK_ID + "' }}"
    "{%- elif message.role == 'assistant' -%}{{ message.content }}{%- endif -%}"
    "{%- endfor -%}"
)
"""The user's turn is the text to speak, between the markers; the assistant's turn is its speech tokens."""


@dataclass(frozen=True)
class HfLayout:
    """The ranges of ids in the vocabulary, and the names of the tokens after the text.

    Args:
        text: entries of the text tokenizer; speech: rows of the speech head and embedding.
        names: token names of the speech ids that are not codes.
        markers: tokens after the speech ids, the rows of `llm_embedding` in order; empty if they are speech ids.
        stops: speech ids that end a sequence.
    """

    text: int
    speech: int
    names: Mapping[int, str]
    markers: tuple[str, ...]
    stops: tuple[int, ...]

    @property
    def used(self) -> int:
        """The number of rows in use, without padding."""
        return self.text + self.speech + len(self.markers)

    @property
    def size(self) -> int:
        """The rows of the vocabulary, padding included."""
        return -(-self.used // ROWS) * ROWS

    def added(self) -> list[str]:
        """Return the names of the ids from `text` up to the padding."""
        return [*(self.names.get(i, f"<|s_{i}|>") for i in range(self.speech)), *self.markers]

    def id_of(self, name: str) -> int:
        """Return the id of an added token."""
        return self.text + self.added().index(name)

    def prompt(self, text: Sequence[int], speech: Sequence[int] = ()) -> list[int]:
        """Return the ids of [sos, text, task_id, speech]."""
        return [self.id_of(SOS), *text, self.id_of(TASK_ID), *(self.text + s for s in speech)]

    def segments(self) -> tuple[tuple[int, int, int], ...]:
        """Return runs of ids: (first id in the merged `Vocabulary`, first id here, length)."""
        if not self.markers:
            return ((0, self.text, self.speech), (self.speech, 0, self.text))
        v = Vocabulary(self.speech)
        markers = ((v.sos, self.id_of(SOS), 1), (v.task_id, self.id_of(TASK_ID), 1))
        return ((0, self.text, self.speech), *markers, (v.text, 0, self.text))


def published_layout(config: LmConfig, text: int) -> HfLayout:
    """Return the layout of that language model over a text tokenizer of `text` entries.

    v2 has three stop ids after the codes, and markers in a table of their own. v3 has two hundred ids after the codes,
    markers included, which all end the sequence; the intended end comes first.
    """
    if config.first_marker is not None:
        codes, end = config.first_marker, config.end_id
        names = {codes: SOS, end: "<|eos1|>", codes + 2: TASK_ID, config.fill_id: "<|fill|>"}
        further = tuple(stop for stop in config.stop_ids if stop != end)
        return HfLayout(text, config.head_size, names, (), (end, *further))
    names = {stop: f"<|eos{index}|>" for index, stop in enumerate(config.stop_ids, 1)}
    return HfLayout(text, config.head_size, names, (SOS, TASK_ID), config.stop_ids)


def hf_model(checkpoint: CosyVoiceCheckpoint, front: TextFrontend, positions: int) -> HfModel:
    """Return the checkpoint's language model as a plain Qwen2 over the published vocabulary.

    Raises CheckpointError if the backbone is not a Qwen2.
    """
    layout = published_layout(checkpoint.config.lm, len(front.tokenizer))
    backbone, sampling = checkpoint.backbone, checkpoint.config.lm.sampling
    if backbone.get("model_type") != "qwen2":
        raise CheckpointError(
            f"the backbone's config.json has model_type {backbone.get('model_type')!r}; only 'qwen2' can be converted."
        )
    stops = [layout.text + stop for stop in layout.stops]
    positions = min(positions, int(backbone["max_position_embeddings"]))
    end = front.tokenizer.token_to_id(END_OF_TEXT)

    def read() -> dict[str, Tensor]:
        return checkpoint.state("llm", widen=False)

    return HfModel(
        # The backbone's own keys, unchanged: older and newer loaders expect `rope_theta` in different places.
        config={key: value for key, value in backbone.items() if key not in ("torch_dtype", "dtype", "bos_token_id")}
        | {
            "architectures": ["Qwen2ForCausalLM"],
            "vocab_size": layout.size,
            "tie_word_embeddings": False,
            "eos_token_id": stops[0],
            "pad_token_id": end,
        },
        generation={
            "do_sample": True,
            "eos_token_id": stops,
            "pad_token_id": end,
            "temperature": 1.0,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        },
        tokenizer=merged_tokenizer(front.tokenizer.definition(), layout),
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": CHAT_TEMPLATE,
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": positions,
        },
        first=layout.text,
        rows=layout.speech,
        positions=positions,
        segments=layout.segments(),
        read=read,
        split=lambda state: split(state, layout),
        join=lambda weights: join(weights, layout),
    )


def merged_tokenizer(definition: dict[str, Any], layout: HfLayout) -> dict[str, Any]:
    """Return the text tokenizer with one token for every row of the vocabulary.

    All tokens are in the base vocabulary too, because servers size their bias vectors by `tokenizer.vocab_size`, which
    does not count added tokens. The new tokens are not special; otherwise detokenizing would drop the speech.
    """
    added = {layout.text + index: name for index, name in enumerate(layout.added())}
    fill = {index: f"<|fill_{index}|>" for index in range(layout.used, layout.size)}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    known = {entry["content"]: entry["id"] for entry in definition["added_tokens"]}
    vocabulary = definition["model"]["vocab"] | known
    for index, name in (added | fill).items():
        if vocabulary.setdefault(name, index) != index:
            raise CheckpointError(f"the text tokenizer already has {name} as id {vocabulary[name]}, not {index}.")
    tokens = [*definition["added_tokens"], *({"id": i, "content": name} | plain for i, name in added.items())]
    return definition | {"added_tokens": tokens, "model": definition["model"] | {"vocab": vocabulary}}


def split(state: Mapping[str, Tensor], layout: HfLayout) -> HfWeights:
    """Return the official state_dict as weights of a plain causal LM and the extra tensors that it has no place for.

    Raises CheckpointError if a table is missing or its number of rows does not fit the layout.
    """
    import torch

    tables = _tables(layout)
    for key, (_, rows) in (tables | {HEAD: (layout.text, layout.speech)}).items():
        present = state[key].shape[0] if key in state else 0
        if present < rows or (present != rows and key != TEXT):
            raise CheckpointError(
                f"the language model's {key} has {present or 'no'} rows; its configuration and tokenizer need {rows}."
            )
    wide = reduce(torch.promote_types, {value.dtype for value in state.values()})
    own = {key: value for key, value in state.items() if key.startswith(f"{PREFIX}model.") and key != TEXT}
    model = {key.removeprefix(PREFIX): value.to(wide) for key, value in own.items()}
    shape = (layout.size, state[TEXT].shape[1])
    embed, head = torch.zeros(shape, dtype=wide), torch.zeros(shape, dtype=wide)
    for key, (start, rows) in tables.items():
        embed[start : start + rows] = state[key][:rows]
    head[layout.text : layout.text + layout.speech] = state[HEAD]
    bias = torch.full((layout.size,), -torch.inf)
    bias[layout.text : layout.text + layout.speech] = state.get(HEAD_BIAS, torch.zeros(layout.speech))
    notes = {"dtypes": json.dumps({key: str(value.dtype).removeprefix("torch.") for key, value in state.items()})}
    extra = {"embed_tokens.tail": state[TEXT][layout.text :].clone()}
    # An untied text head is never used, but it belongs to the checkpoint, like any other tensor in the file.
    held = own.keys() | tables.keys() | {HEAD, HEAD_BIAS}
    tied = TEXT_HEAD in state and identical(state[TEXT_HEAD], state[TEXT])
    if tied:
        held |= {TEXT_HEAD}
    extra |= {f"checkpoint.{key}": value.clone() for key, value in state.items() if key not in held}
    return HfWeights(model | {EMBED: embed, LM_HEAD: head}, bias, extra, notes | {"tied": json.dumps(tied)})


def join(weights: HfWeights, layout: HfLayout) -> dict[str, Tensor]:
    """Return the official state_dict, every tensor with its original values and dtype.

    A tensor that training has changed and that no longer fits its original dtype keeps its current one.
    """
    import torch

    embed, first = weights.model[EMBED], layout.text
    state = {f"{PREFIX}{k}": v for k, v in weights.model.items() if k not in (EMBED, LM_HEAD)}
    state |= {key: embed[start : start + rows] for key, (start, rows) in _tables(layout).items()}
    state[TEXT] = torch.cat((embed[: layout.text], weights.extra["embed_tokens.tail"].to(embed.dtype)))
    state[HEAD] = weights.model[LM_HEAD][first : first + layout.speech]
    state[HEAD_BIAS] = weights.bias[first : first + layout.speech]
    if _note(weights, "tied") is True:
        state[TEXT_HEAD] = state[TEXT]
    state |= {k.removeprefix("checkpoint."): v for k, v in weights.extra.items() if k.startswith("checkpoint.")}
    dtypes = _note(weights, "dtypes")
    if not isinstance(dtypes, dict) or not dtypes.keys() <= state.keys():
        raise CheckpointError("the notes on the checkpoint's dtypes are damaged; export the checkpoint again")
    kinds = {key: getattr(torch, str(dtype), None) for key, dtype in dtypes.items()}
    wrong = [key for key, kind in kinds.items() if not isinstance(kind, torch.dtype)]
    if wrong:
        raise CheckpointError(f"the notes name no dtype for {wrong[0]}; export the checkpoint again")
    return {key: _narrowed(state[key], kind).contiguous() for key, kind in kinds.items()}


def _note(weights: HfWeights, name: str) -> Any:
    """Return a note that `split` wrote; CheckpointError if it is missing or damaged."""
    return parse_json(weights.notes.get(name, ""), f"the note {name} of the weights", CheckpointError)


def _narrowed(value: Tensor, dtype: Any) -> Tensor:
    """Return the tensor in its original dtype if that is lossless."""
    former = value.to(dtype)
    return former if identical(former.to(value.dtype), value) else value


def _tables(layout: HfLayout) -> dict[str, tuple[int, int]]:
    """Return (first row, number of rows) in the merged embedding, by official key."""
    tables = {TEXT: (0, layout.text), SPEECH: (layout.text, layout.speech)}
    if layout.markers:
        tables[MARKERS] = (layout.text + layout.speech, len(layout.markers))
    return tables
