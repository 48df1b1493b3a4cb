"""The flow's training: what its losses measure, what conditions it sees, and a whole tiny run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.flow_helpers import random_flow

from training.core.loop import train
from training.corpus.data import Corpus
from training.cosyvoice import flow as recipe
from training.cosyvoice.flow_matching import LONGEST_PROMPT, Batch, chunks, losses, masked_mean, matching_loss, solve
from tritone.errors import ArtifactError
from tritone.families.cosyvoice.flow.v2.network import Flow


def batch(lengths: tuple[int, ...] = (20, 7), seed: int = 0) -> Batch:
    """Random utterances for `random_flow`, zero beyond their lengths."""
    generator = torch.Generator().manual_seed(seed)
    rows, longest = len(lengths), max(lengths)
    made = Batch(
        torch.randint(50, (rows, longest), generator=generator),
        torch.tensor(lengths),
        torch.randn(rows, 8, generator=generator),
        torch.randn(rows, 80, 2 * longest, generator=generator) - 5,
    )
    return Batch(made.token, made.length, made.embedding, made.mel * made.mask())


class Perfect(torch.nn.Module):
    """A flow whose estimator knows the answer and adds `error` to it, and nonsense where nothing exists."""

    def __init__(self, answer: torch.Tensor, error: float) -> None:
        super().__init__()
        self.config, self.decoder = random_flow(-1, 4)[0], self
        self.answer, self.error = answer, error

    def estimator(self, x: torch.Tensor, *_: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.where(valid[:, None], self.answer + self.error, 1e6), None


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_matching_loss_is_the_squared_error_on_frames_that_exist(error: float) -> None:
    data = batch()
    noise = torch.randn_like(data.mel)
    given = (data.mel, data.embedding, data.mel)
    t = torch.tensor([0.3, 0.9])
    perfect = Perfect(data.mel - (1 - 1e-6) * noise, error)
    found = matching_loss(perfect, data, t, noise, given, torch.tensor([50]))
    assert float(found) == pytest.approx(error**2, abs=1e-9)


def test_padding_does_not_change_the_losses() -> None:
    _, flow = random_flow(2, chunk=4)
    data = batch((20, 7))
    noise = torch.randn_like(data.mel)
    tokens, frames = chunks(flow.config, True, torch.device("cpu"))

    def loss(data: Batch, noise: torch.Tensor) -> float:
        mu = flow.encode_whole(data.token, data.length, tokens)
        given = (mu, flow.speaker(data.embedding), torch.zeros_like(data.mel))
        t = torch.full((len(mu),), 0.4)
        return float(matching_loss(flow, data, t, noise, given, frames))

    with torch.no_grad():
        together = loss(data, noise)
        alone = [loss(data.row(i), noise[i : i + 1, :, : 2 * n]) for i, n in enumerate((20, 7))]
    assert together == pytest.approx((20 * alone[0] + 7 * alone[1]) / 27, rel=1e-5)


def test_known_mel_is_a_beginning_of_about_half_of_the_utterances() -> None:
    torch.manual_seed(0)
    data = batch((50,) * 400)
    known = data.known()
    sizes = (known != 0).any(dim=1).sum(dim=1)
    assert 160 <= int((sizes > 0).sum()) <= 240
    assert int(sizes.max()) <= LONGEST_PROMPT * 100 and int(sizes.max()) > 0.25 * 100
    for row, size in enumerate(sizes.tolist()):
        assert torch.equal(known[row, :, :size], data.mel[row, :, :size])


def test_conditions_are_dropped_together_and_at_the_configured_rate() -> None:
    config, flow = random_flow(-1, 4)
    seen: list[torch.Tensor] = []

    def watch(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        _, mu, _, spks, cond, _ = arguments
        seen.append(torch.stack([x.abs().amax(dim=tuple(range(1, x.ndim))) for x in (mu, spks, cond)]))

    flow.decoder.estimator.register_forward_pre_hook(watch)
    torch.manual_seed(0)
    with torch.no_grad():
        losses(flow, batch((4,) * 600), streaming=False)
    mu, spks, cond = seen[0]
    dropped = mu == 0
    assert float(dropped.float().mean()) == pytest.approx(config.training_cfg_rate, abs=0.06)
    assert torch.equal(dropped, spks == 0) and not cond[dropped].any()


def test_training_fits_one_utterance() -> None:
    torch.manual_seed(0)
    _, flow = random_flow(-1, 4)
    data = batch((10, 10))
    optimizer = torch.optim.AdamW(flow.parameters(), 1e-2)
    history = []
    for _ in range(40):
        matching, prior = losses(flow.train(), data, streaming=False)
        optimizer.zero_grad()
        (matching + prior).backward()
        optimizer.step()
        history.append((float(matching.detach()), float(prior.detach())))
    first, last = np.mean(history[:5], axis=0), np.mean(history[-5:], axis=0)
    assert (last < 0.5 * first).all()


def test_solving_uses_the_asked_mask() -> None:
    _, flow = random_flow(0, chunk=4)
    one = batch((20, 7)).row(0)
    whole, streaming = solve(flow, one, False), solve(flow, one, True)
    assert whole.shape == streaming.shape == (80, 40)
    assert np.abs(whole - streaming).max() > 1e-2


def test_masked_mean() -> None:
    values = torch.arange(8.0).reshape(1, 2, 4)
    assert float(masked_mean(values, torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]))) == 2.5


def test_the_average_follows() -> None:
    average, flow = random_flow(-1, 4)[1], random_flow(-1, 4)[1]
    with torch.no_grad():
        flow.encoder_proj.bias += 1.0
    wanted = 0.75 * average.encoder_proj.bias + 0.25 * flow.encoder_proj.bias
    recipe.follow(average, flow, 0.75)
    assert torch.allclose(average.encoder_proj.bias, wanted)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve utterances of two speakers with mel, tokens that do not quite match in length, and embeddings."""
    rng, rows = np.random.default_rng(0), []
    for i in range(12):
        row = {"id": f"u{i}", "speaker": "ab"[i % 2], "text": "Hi.", "phones": ["h"], "samples": 16000}
        rows.append(json.dumps(row | {"file": f"wavs/u{i}.wav"}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows))
    made = Corpus(tmp_path)
    made.write("mel", (rng.normal(-5, 2, (40 + 3 * i, 80)).astype(np.float16) for i in range(12)))
    made.write("tokens", (rng.integers(0, 6561, (21 + i, 1)).astype(np.int16) for i in range(12)))
    return tmp_path


def arguments(data: Path) -> argparse.Namespace:
    given = {"data": data, "device": torch.device("cpu"), "smoke": True, "steps": 4, "frames": 200, "rate": 1e-3}
    return argparse.Namespace(**given, seed=0, start=None, start_data=None)


def test_a_whole_tiny_run(corpus: Path, tmp_path: Path) -> None:
    made = Corpus(corpus)
    made.write("embedding", (np.random.default_rng(i).normal(0, 1, (1, 192)).astype(np.float32) for i in range(12)))
    torch.manual_seed(0)
    run = recipe.build(arguments(corpus))
    assert train(run, tmp_path / "out", eval_every=2, save_every=2) == 4
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"matching", "prior", "mel_l1", "mel_l1_streaming"} <= row.keys()
    kept = recipe.trained(tmp_path / "out", smoke=True)
    assert isinstance(kept, Flow) and not kept.training
    best = torch.load(tmp_path / "out" / "best.pt", weights_only=True)
    assert torch.equal(kept.encoder_proj.weight, best["networks"]["average"]["encoder_proj.weight"])


def test_features_are_aligned_and_embeddings_come_from_the_speaker(corpus: Path) -> None:
    made = Corpus(corpus)
    directions = np.eye(192, dtype=np.float32)
    made.write("embedding", (directions[i % 2][None] * (1 + i) for i in range(12)))
    features = recipe.Features(made)
    assert features.lengths.tolist() == [min(21 + i, (40 + 3 * i) // 2) for i in range(12)]
    found = features.batch(np.array([0, 3]), np.random.default_rng(0), torch.device("cpu"))
    assert found.length.tolist() == [20, 24]
    assert found.mel.shape == (2, 80, 48) and found.token.shape == (2, 24)
    assert torch.equal(found.mel[1].T, torch.from_numpy(made.store("mel")[3][:48].astype(np.float32)))
    assert found.embedding.argmax(dim=1).tolist() == [0, 1]
    assert (found.embedding > 0).sum(dim=1).tolist() == [1, 1]


def test_a_corpus_without_embeddings_says_what_to_run(corpus: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no 'embedding' yet. Run `python -m training.prepare embedding --data"):
        recipe.build(arguments(corpus))
