"""The recipe of the flow: speech tokens and a speaker embedding to mel, half of the steps under the streaming mask.

Besides the flow-matching loss, a second loss pulls the encoder's output towards the mel itself, as in Matcha-TTS (Mehta
et al. 2023), for a faster start. A moving average of the weights is evaluated and kept.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.core import checkpointing, distributed
from training.core.optimizers import muon_and_adamw
from training.core.run import Evaluation, Run, autocast, warmup_cosine
from training.corpus.data import Corpus, Store, bucketed, pad
from training.cosyvoice.flow_matching import Batch, chunks, losses, masked_mean, matching_loss, solve
from training.cosyvoice.new_codes import carry
from training.cosyvoice.straight_start import begin_straight, fits
from tritone.errors import ConfigError
from tritone.families.cosyvoice.config.v2 import EncoderConfig, EstimatorConfig, FlowConfig
from tritone.families.cosyvoice.flow.v2.network import Flow

NANO = FlowConfig(
    input_size=128,
    cfg_rate=1.5,  # lowest word error rate on held-out sentences: 0.265 against 0.282 with 0.7
    encoder=EncoderConfig(
        dim=128, attention_heads=4, linear_units=256, num_blocks=2, num_up_blocks=2, chunk_size=25, left_chunks=2
    ),
    estimator=EstimatorConfig(
        channels=(192,), attention_head_dim=32, n_blocks=1, num_mid_blocks=2, num_heads=6, chunk_size=50, left_chunks=2
    ),
)
SMOKE = replace(
    NANO,
    input_size=32,
    encoder=replace(NANO.encoder, dim=32, linear_units=64, num_blocks=1, num_up_blocks=1),
    estimator=replace(NANO.estimator, channels=(32,), attention_head_dim=8, num_mid_blocks=1, num_heads=4),
)

FRAMES = 2400
"""Mel frames of a batch, padding included (48 s)."""
LONGEST = 1500
"""Mel frames of the longest utterance trained on (30 s)."""
STEPS = 40000
RATE = 1e-3
PRIOR = 0.5
"""Weight of the encoder's own distance to the mel."""
STREAMING = 0.5
"""Share of the steps under the streaming mask."""
AVERAGE = 0.999
"""Decay of the moving average of the weights."""
TIMES = (0.05, 0.2, 0.4, 0.6, 0.8)
"""Flow times at which the objective is evaluated."""


class Features:
    """The corpus's aligned tokens, mel and embeddings."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.token, self.mel, self.embedding = (corpus.store(kind) for kind in ("tokens", "mel", "embedding"))
        self.lengths = np.minimum(self.token.lengths, self.mel.lengths // 2)
        self.speakers = np.array([u.speaker for u in corpus.utterances])
        self._means = {s: mean_embedding(self.embedding, np.flatnonzero(self.speakers == s)) for s in corpus.speakers}

    def batch(self, rows: np.ndarray, rng: np.random.Generator, device: torch.device) -> Batch:
        """Return these utterances, half of them with their own embedding, half with their speaker's mean."""
        sizes = self.lengths[rows]
        token = pad([self.token[i][:n, 0].astype(np.int64) for i, n in zip(rows, sizes, strict=True)])
        mel = pad([self.mel.rows(i, 0, 2 * n).astype(np.float32) for i, n in zip(rows, sizes, strict=True)])
        own = rng.random(len(rows)) < 0.5
        embedding = [
            self.embedding[i][0] if mine else self._means[self.speakers[i]] for i, mine in zip(rows, own, strict=True)
        ]
        arrays = (token, sizes, np.stack(embedding).astype(np.float32), mel.transpose(0, 2, 1))
        return Batch(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def mean_embedding(store: Store, rows: np.ndarray, most: int = 500) -> np.ndarray:
    """Return the mean direction float32 `[192]` of up to `most` embeddings."""
    vectors = np.stack([store[i][0] for i in rows[:most]])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0).astype(np.float32)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("--frames", type=int, default=FRAMES, help="mel frames per step, padding included")
    parser.add_argument("--rate", type=float, default=RATE, help="peak learning rate")
    parser.add_argument(
        "--start", type=Path, help="folder of a run whose best weights are the start, where their sizes fit"
    )
    parser.add_argument("--start-data", type=Path, help="corpus with that run's tokens, if they differ from --data's")


def build(args: argparse.Namespace) -> Run:
    """Return the run of `python -m training cosyvoice_flow`."""
    corpus, device = Corpus(args.data), args.device
    features = Features(corpus)
    config = SMOKE if args.smoke else NANO
    rows = corpus.indices(False)
    flow = prepare(Flow(config), features.mel, rows).to(device)
    if args.start:
        begin_with(flow, checkpointing.best_network(args.start, "average"))
    if args.start_data:
        table = flow.input_embedding.weight
        table.data.copy_(carry(table, Corpus(args.start_data), corpus, config.vocab_size))
    average = copy.deepcopy(flow).requires_grad_(False)
    optimizers = muon_and_adamw(flow.named_parameters(), args.rate, (0.9, 0.98), weight_decay=0.01)
    frames = 1000 if args.smoke else args.frames

    def plan(epoch: int) -> list[np.ndarray]:
        return bucketed(2 * features.lengths, rows, frames, args.seed, epoch, LONGEST)

    def batches(epoch: int, skip: int) -> Iterator[Batch]:
        groups = plan(epoch)
        for number in range(skip, len(groups)):
            rng = np.random.default_rng([args.seed, epoch, number, distributed.rank()])
            yield features.batch(groups[number], rng, device)

    def step(batch: Batch, number: int) -> dict[str, float]:
        streaming = float(torch.rand(())) < STREAMING
        with autocast(device):
            matching, prior = losses(flow, batch, streaming)
        gradient = distributed.update(matching + PRIOR * prior, *optimizers.values(), clip=1.0)
        follow(average, flow, min(AVERAGE, (1 + number) / (10 + number)))
        return {"matching": float(matching.detach()), "prior": float(prior.detach()), "gradient": gradient}

    examples = first_of_each(features, corpus.validation(), 1 if args.smoke else 8)

    def evaluate() -> Evaluation:
        return score(average, features, examples, device)

    schedulers = dict.fromkeys(optimizers, warmup_cosine(0.02, 0.02))
    return Run("flow", {"flow": flow, "average": average}, optimizers, batches, step, evaluate,
               "matching", args.steps or (10 if args.smoke else STEPS), schedulers, device=device,
               utterances=lambda epoch, number: corpus.names(plan(epoch)[number]))  # fmt: skip


def prepare(flow: Flow, mel: Store, rows: np.ndarray) -> Flow:
    """Return a new network that starts from the corpus's mean mel instead of zero and from a straight flow."""
    sample = rows[:: max(1, len(rows) // 200)]
    mean = torch.from_numpy(np.mean([mel[i].astype(np.float32).mean(axis=0) for i in sample], axis=0))
    estimator = flow.decoder.estimator
    with torch.no_grad():
        for layer in (flow.encoder_proj, estimator.final_proj):
            assert layer.bias is not None
            layer.bias.copy_(mean)
    if fits(estimator):
        begin_straight(estimator, mean)
    return flow


def begin_with(flow: Flow, weights: dict[str, Tensor]) -> None:
    """Load the encoder's weights, and the estimator's if it has the same sizes.

    Raises:
        ConfigError: the encoders differ.
    """
    own = flow.state_dict()
    parts = [[key for key in own if ("estimator" in key) == chosen] for chosen in (False, True)]
    encoder, estimator = (all(k in weights and weights[k].shape == own[k].shape for k in part) for part in parts)
    if not encoder:
        raise ConfigError("--start: that run's encoder differs in size from this recipe's; leave --start out.")
    flow.load_state_dict({key: weights[key] for key in own if estimator or "estimator" not in key}, strict=estimator)


@torch.no_grad()
def follow(average: Flow, flow: Flow, decay: float) -> None:
    """Move the averaged weights towards the trained ones."""
    torch._foreach_lerp_(list(average.parameters()), list(flow.parameters()), 1 - decay)


def first_of_each(features: Features, rows: np.ndarray, each: int) -> np.ndarray:
    """Return the first `each` of `rows` of every speaker, those of 1 to 8 s where they exist."""
    good = rows[(features.lengths[rows] >= 25) & (features.lengths[rows] <= 200)]
    rows = good if len(good) else rows
    return np.concatenate([rows[features.speakers[rows] == speaker][:each] for speaker in features.corpus.speakers])


def score(flow: Flow, features: Features, rows: np.ndarray, device: torch.device) -> Evaluation:
    """Return the averaged network's scores on fixed utterances, flow times and noise.

    `matching` and `prior`: the training losses, without dropped conditions, under full attention. `mel_l1` and
    `mel_l1_streaming`: mean absolute difference of log mel after solving the flow from the published noise, for one
    utterance a speaker. Images show the solved mel above the recording's.
    """
    batch = features.batch(rows, np.random.default_rng(0), device)
    generator = torch.Generator().manual_seed(0)
    tokens, frames = chunks(flow.config, False, device)
    mu = flow.encode_whole(batch.token, batch.length, tokens)
    given = (mu, flow.speaker(batch.embedding), torch.zeros_like(batch.mel))
    matching = []
    for time in TIMES:
        noise = torch.randn(batch.mel.shape, generator=generator).to(device)
        t = torch.full((len(mu),), time, device=device)
        matching.append(float(matching_loss(flow, batch, t, noise, given, frames)))
    scalars = {
        "matching": float(np.mean(matching)),
        "prior": float(masked_mean((mu - batch.mel).square(), batch.mask())),
    }
    speakers, chosen = np.unique(features.speakers[rows], return_index=True)
    images: dict[str, np.ndarray] = {}
    for name, streaming in (("mel_l1", False), ("mel_l1_streaming", True)):
        distances = []
        for speaker, index in zip(speakers.tolist(), chosen.tolist(), strict=True):
            one = batch.row(index)
            solved, recorded = solve(flow, one, streaming), one.mel[0].cpu().numpy()
            distances.append(np.abs(solved - recorded).mean())
            images[f"{speaker}_streaming" if streaming else speaker] = np.concatenate([solved, recorded])
        scalars[name] = float(np.mean(distances))
    return Evaluation(scalars, images)


def trained(out: Path, smoke: bool = False) -> Flow:
    """Return the best averaged network of the run in `out`; its state_dict is the checkpoint's `flow.pt`."""
    flow = Flow(SMOKE if smoke else NANO)
    flow.load_state_dict(checkpointing.best_network(out, "average"))
    return flow.eval()
