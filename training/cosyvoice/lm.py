"""The recipe of the language model: phones to speech tokens, next-token cross-entropy on speech tokens and the end.

A sequence is [sos, text, task_id, speech, end] in the v2 layout. Most texts begin with `<|speaker|><|endofprompt|>`, so
that a voice can be selected by name; some do not, and some join two utterances of one speaker, so that the model also
learns to continue in the voice of preceding speech tokens (zero-shot prompting).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.core import checkpointing, distributed
from training.core.cross_entropy import linear_cross_entropy
from training.core.optimizers import muon_and_adamw
from training.core.run import Evaluation, Run, autocast, warmup_cosine
from training.corpus.data import Corpus, bucketed, pad
from training.cosyvoice.networks.code_features import CodeFeatures
from training.cosyvoice.new_codes import carry
from tritone.errors import ConfigError
from tritone.families.cosyvoice.checkpoint.folder import BACKBONE
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.v2.network import SpeechLM
from tritone.families.cosyvoice.speak.text import END_OF_PROMPT, build_phoneme_tokenizer, encode_symbols, speaker_tag
from tritone.lm.rules import SamplingConfig
from tritone.text.tokenizer import TextTokenizer

TAGGED, JOINED_TAGGED = 0.85, 0.4
"""Share of single utterances, and of joined ones, that name their speaker: a joined one should also do without."""
JOINED = 0.25
"""Share of the utterances that are followed by another of the same speaker in one sequence."""
LONGEST = 700
"""Positions of the longest sequence that is trained on."""
IGNORED = -100
SOS, TASK_ID = 0, 1
"""Rows of the language model's `llm_embedding`."""


def sizes(smoke: bool) -> dict[str, int]:
    """Return the sizes of the Qwen2 backbone."""
    width, layers = (64, 2) if smoke else (256, 6)
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 3 * width,
    }


def lm_config(smoke: bool = False) -> LmConfig:
    """Return the model's configuration; phones are shorter than Qwen's text tokens, so the length ratios differ."""
    return LmConfig(
        hidden_size=sizes(smoke)["hidden_size"],
        min_token_text_ratio=1.0,
        max_token_text_ratio=10.0,
        sampling=SamplingConfig(top_p=0.6),  # word error rate on 120 held-out sentences: 0.195 against 0.200 with 0.8
    )


def network(model_dir: Path, speakers: list[str], smoke: bool = False) -> SpeechLM:
    """Return a new model with small initial weights and write its tokenizer and configuration to `model_dir`."""
    backbone = build_phoneme_tokenizer(model_dir, speakers, dict(sizes(smoke)))
    lm = SpeechLM(lm_config(smoke), backbone)
    for table in (lm.llm_embedding, lm.speech_embedding, lm.llm_decoder):
        torch.nn.init.normal_(table.weight, std=0.02)
    torch.nn.init.zeros_(lm.llm_decoder.bias)
    return lm


class Sequences:
    """The corpus as sequences of one or two utterances' text and speech ids, and their batches."""

    def __init__(self, corpus: Corpus, tokenizer: TextTokenizer) -> None:
        self.corpus = corpus
        self.speech = corpus.store("tokens")
        self.text = [np.array(encode_symbols(tokenizer, u.phones), np.int64) for u in corpus.utterances]
        self.tags = {s: np.array(tokenizer.encode(speaker_tag(s) + END_OF_PROMPT), np.int64) for s in corpus.speakers}
        self.lengths = np.array([len(t) for t in self.text]) + self.speech.lengths + 4

    def plan(self, rows: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        """Return each of `rows` once, some followed by another of the same speaker."""
        speakers = np.array([self.corpus.utterances[i].speaker for i in rows])
        partner = np.full(len(rows), -1)
        for speaker in self.corpus.speakers:
            own = np.flatnonzero(speakers == speaker)
            if len(own):
                partner[own] = rows[rng.choice(own, len(own))]
        joined = (rng.random(len(rows)) < JOINED) & (self.lengths[rows] + self.lengths[partner] <= LONGEST)
        return [[int(a), int(b)] if both else [int(a)] for a, b, both in zip(rows, partner, joined, strict=True)]

    def batch(self, groups: list[list[int]], rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Return the padded ids of text and speech with their lengths, a sequence per group; all are tagged when
        `rng` is missing.
        """
        texts, speeches = [], []
        for rows in groups:
            text = [self.text[row] for row in rows]
            if rng is None or rng.random() < (TAGGED if len(rows) == 1 else JOINED_TAGGED):
                text.insert(0, self.tags[self.corpus.utterances[rows[0]].speaker])
            texts.append(np.concatenate(text))
            speeches.append(np.concatenate([self.speech[row][:, 0] for row in rows]).astype(np.int64))
        return {
            "text": torch.from_numpy(pad(texts)),
            "text_len": torch.tensor([len(t) for t in texts]),
            "speech": torch.from_numpy(pad(speeches)),
            "speech_len": torch.tensor([len(s) for s in speeches]),
        }


def layout(batch: dict[str, Tensor], end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the layout of the right-padded sequences `[batch, positions]`.

    The result is (kind, index, target): kind 0 padding, 1 sos, 2 text, 3 task_id, 4 speech; index into that row's
    text or speech; target the id to predict after each position, IGNORED before task_id and on padding.
    """
    text_len, speech_len = batch["text_len"][:, None], batch["speech_len"][:, None]
    position = torch.arange(int((text_len + speech_len).max()) + 2, device=text_len.device)[None]
    task = text_len + 1
    kind = torch.where(position < task, 2, torch.where(position == task, 3, 4))
    kind = torch.where(position == 0, 1, torch.where(position > task + speech_len, 0, kind))
    index = torch.where(kind == 2, position - 1, torch.where(kind == 4, position - task - 1, 0))
    following = (position - task).clamp(min=0)  # after task_id comes speech 0, after speech i comes i + 1
    speech = F.pad(batch["speech"], (0, 1))
    target = speech.gather(1, following.clamp(max=speech.shape[1] - 1))
    target = torch.where(following == speech_len, end, target)
    return kind, index, torch.where(kind >= 3, target, IGNORED)


def code_features(config: LmConfig) -> CodeFeatures:
    """Return the part of the speech tables that codes share."""
    digits = next(n for n in range(1, 20) if 3**n >= config.speech_token_size)
    if 3**digits != config.speech_token_size:
        raise ConfigError(f"speech_token_size {config.speech_token_size} is not a power of 3, so codes have no digits.")
    return CodeFeatures(digits, config.head_size, config.hidden_size)


def embed(lm: SpeechLM, codes: CodeFeatures, batch: dict[str, Tensor], kind: Tensor, index: Tensor) -> Tensor:
    """Return the embedded sequences `[batch, positions, hidden]`, zero on padding."""
    table = codes.embedding_table(lm.speech_embedding.weight)
    text = lm.llm.model.model.embed_tokens(batch["text"].gather(1, index.clamp(max=batch["text"].shape[1] - 1)))
    speech = F.embedding(batch["speech"].gather(1, index.clamp(max=batch["speech"].shape[1] - 1)), table)
    markers = lm.llm_embedding(torch.where(kind == 3, TASK_ID, SOS))
    kind = kind[..., None]
    marked = torch.where((kind == 1) | (kind == 3), markers, 0.0)
    return torch.where(kind == 2, text, torch.where(kind == 4, speech, marked))


@torch.no_grad()
def carry_tables(lm: SpeechLM, codes: CodeFeatures, before: Corpus, after: Corpus) -> None:
    """Replace the embeddings and scores of `before`'s codes by those of `after`'s; the digits' shared part stays."""
    embedding, head, bias = lm.speech_embedding.weight, lm.llm_decoder.weight, lm.llm_decoder.bias
    tables = [codes.embedding_table(embedding), codes.head_table(head)] + ([] if bias is None else [bias[:, None]])
    moved = carry(torch.cat(tables, dim=1), before, after, lm.config.speech_token_size)
    parts = moved.split([table.shape[1] for table in tables], dim=1)
    embedding.copy_(parts[0] - codes.features @ codes.embedding)
    head.copy_(parts[1] - codes.features @ codes.head)
    if bias is not None:
        bias.copy_(parts[2][:, 0])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this recipe's options."""
    parser.add_argument("--start", type=Path, help="folder of a run whose best weights are the start")
    parser.add_argument("--start-data", type=Path, help="corpus with that run's tokens, if they differ from --data's")


def build(args: argparse.Namespace) -> Run:
    """Return the run of `python -m training cosyvoice_lm`."""
    corpus, device = Corpus(args.data), args.device
    with tempfile.TemporaryDirectory() as folder:
        lm = network(Path(folder), corpus.speakers, args.smoke).to(device)
        tokenizer = TextTokenizer(Path(folder) / BACKBONE)
    codes = code_features(lm.config).to(device)
    if args.start:
        lm.load_state_dict(checkpointing.best_network(args.start, "lm"))
        codes.load_state_dict(checkpointing.best_network(args.start, "codes"))
    if args.start_data:
        carry_tables(lm, codes, Corpus(args.start_data), corpus)
    sequences = Sequences(corpus, tokenizer)
    named = {**dict(codes.named_parameters(prefix="code_embedding")), **dict(lm.named_parameters())}
    optimizers = muon_and_adamw(named.items(), 1e-3, (0.9, 0.95), weight_decay=0.05)

    def move(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(device) for name, value in batch.items()}

    def step(batch: dict[str, Tensor], number: int) -> dict[str, float]:
        with autocast(device):
            hidden, target = states(lm, codes, batch)
            head = codes.head_table(lm.llm_decoder.weight)
            loss = linear_cross_entropy(hidden, head, lm.llm_decoder.bias, target)
        norm = distributed.update(loss, *optimizers.values(), clip=1.0)
        return {"loss": float(loss.detach()), "gradient": norm, "targets": float(len(target))}

    def plan(epoch: int) -> list[list[list[int]]]:
        budget = 1200 if args.smoke else 4500
        groups = sequences.plan(corpus.indices(False), np.random.default_rng([args.seed, epoch]))
        lengths = np.array([sum(sequences.lengths[rows]) for rows in groups])
        chosen = bucketed(lengths, np.arange(len(groups)), budget, args.seed, epoch, longest=LONGEST)
        return [[groups[i] for i in batch] for batch in chosen]

    def batches(epoch: int, skip: int) -> Iterator[dict[str, Tensor]]:
        for number, groups in list(enumerate(plan(epoch)))[skip:]:
            rng = np.random.default_rng([args.seed, epoch, number, distributed.rank()])
            yield move(sequences.batch(groups, rng))

    def evaluate() -> Evaluation:
        rows = corpus.validation()[:400]
        batches = (rows[start : start + 16] for start in range(0, len(rows), 16))
        return score(lm, codes, (move(sequences.batch([[int(row)] for row in part], None)) for part in batches))

    return Run(
        "lm", {"lm": lm, "codes": codes}, optimizers, batches, step, evaluate, "loss", device=device,
        max_steps=5 if args.smoke else 6000, schedulers=dict.fromkeys(optimizers, warmup_cosine()),
        utterances=lambda epoch, number: corpus.names(row for rows in plan(epoch)[number] for row in rows),
    )  # fmt: skip


def states(lm: SpeechLM, codes: CodeFeatures, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the hidden states `[targets, hidden]` and the ids to predict, of the positions that have one."""
    kind, index, target = layout(batch, lm.config.stop_ids[0])
    # The attention is causal, so it never reaches padding on the right.
    hidden, _ = lm.hidden(embed(lm, codes, batch, kind, index))
    predicted = target != IGNORED
    return hidden[predicted], target[predicted]


def score(lm: SpeechLM, codes: CodeFeatures, batches: Iterable[dict[str, Tensor]]) -> Evaluation:
    """Return the mean cross-entropy and the accuracy of the predicted ids."""
    loss, right, count = 0.0, 0, 0
    head = codes.head_table(lm.llm_decoder.weight)
    for batch in batches:
        with autocast(head.device):
            hidden, target = states(lm, codes, batch)
        logits = F.linear(hidden.float(), head, lm.llm_decoder.bias)
        loss += float(F.cross_entropy(logits, target, reduction="sum"))
        right += int((logits.argmax(-1) == target).sum())
        count += len(target)
    return Evaluation({"loss": loss / count, "accuracy": right / count})


def export(out: Path, model_dir: Path, speakers: list[str], smoke: bool = False) -> tuple[LmConfig, dict[str, Tensor]]:
    """Return the configuration and official-layout state of the best model of the run in `out`; writes `CosyVoice-
    BlankEN/`.
    """
    lm = network(model_dir, speakers, smoke)
    lm.load_state_dict(checkpointing.best_network(out, "lm"))
    codes = code_features(lm.config)
    codes.load_state_dict(checkpointing.best_network(out, "codes"))
    with torch.no_grad():
        lm.speech_embedding.weight.copy_(codes.embedding_table(lm.speech_embedding.weight))
        lm.llm_decoder.weight.copy_(codes.head_table(lm.llm_decoder.weight))
    return lm.config, lm.state_dict()
