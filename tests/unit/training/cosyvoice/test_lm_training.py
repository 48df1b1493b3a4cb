"""The language model recipe: sequence layout, the chunked loss, what a batch holds, and that training learns."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.core.cross_entropy import ROWS, linear_cross_entropy
from training.corpus.data import Corpus
from training.cosyvoice import lm as recipe
from tritone.families.cosyvoice.checkpoint.folder import BACKBONE
from tritone.text.tokenizer import TextTokenizer

SPEAKERS = ["ann", "bob"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sixty utterances whose phones and tokens are random but of plausible lengths."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        phones = rng.choice(["h", "ˈaɪ", "_", "j", "ˈu"], rng.integers(5, 20)).tolist()
        speaker = SPEAKERS[i % 2]
        rows.append(
            {"id": f"u{i}", "speaker": speaker, "text": "", "phones": [*phones, "."], "samples": 1, "file": "x"}
        )
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = Corpus(folder)
    corpus.write("tokens", (rng.integers(0, 6561, (int(rng.integers(8, 40)), 1)).astype(np.int16) for _ in rows))
    return corpus


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    recipe.network(folder, SPEAKERS, smoke=True)
    return TextTokenizer(folder / BACKBONE)


def arguments(corpus: Corpus) -> argparse.Namespace:
    return argparse.Namespace(
        data=corpus.folder, device=torch.device("cpu"), smoke=True, seed=0, start=None, start_data=None
    )


def test_layout_places_every_id_and_target() -> None:
    batch = {
        "text": torch.tensor([[11, 12, 0], [21, 22, 23]]),
        "text_len": torch.tensor([2, 3]),
        "speech": torch.tensor([[5, 6, 7], [8, 0, 0]]),
        "speech_len": torch.tensor([3, 1]),
    }
    kind, index, target = recipe.layout(batch, end=99)
    no = recipe.IGNORED
    assert kind.tolist() == [[1, 2, 2, 3, 4, 4, 4], [1, 2, 2, 2, 3, 4, 0]]
    assert target.tolist() == [[no, no, no, 5, 6, 7, 99], [no, no, no, no, 8, 99, no]]
    assert index[0].tolist() == [0, 0, 1, 0, 0, 1, 2]


def test_a_padded_batch_scores_as_the_reference_does(corpus: Corpus, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    lm = recipe.network(tmp_path, SPEAKERS, smoke=True).eval()
    batch = recipe.Sequences(corpus, tokenizer).batch([[0], [1, 3], [2]], None)
    kind, index, target = recipe.layout(batch, lm.config.stop_ids[0])
    with torch.inference_mode():
        hidden, _ = lm.hidden(recipe.embed(lm, recipe.code_features(lm.config), batch, kind, index))
        for row in range(3):
            text = batch["text"][row : row + 1, : batch["text_len"][row]]
            speech = batch["speech"][row : row + 1, : batch["speech_len"][row]]
            found = lm.llm_decoder(hidden[row][target[row] != recipe.IGNORED]).log_softmax(-1)
            torch.testing.assert_close(found, lm.log_probs(text, speech)[0], atol=1e-5, rtol=0)
            wanted = target[row][target[row] != recipe.IGNORED]
            assert wanted.tolist() == [*speech[0].tolist(), lm.config.stop_ids[0]]


def test_a_plan_has_every_utterance_and_joins_only_one_speakers(corpus: Corpus, tokenizer: TextTokenizer) -> None:
    sequences = recipe.Sequences(corpus, tokenizer)
    rows = corpus.indices(False)
    groups = sequences.plan(rows, np.random.default_rng(1))
    assert [group[0] for group in groups] == rows.tolist()
    joined = [group for group in groups if len(group) == 2]
    assert 0 < len(joined) < len(groups) / 2
    assert all(corpus.utterances[a].speaker == corpus.utterances[b].speaker for a, b in joined)
    assert {b for _, b in joined} <= set(rows.tolist())


def test_tags_are_given_often_but_not_always(corpus: Corpus, tokenizer: TextTokenizer) -> None:
    sequences = recipe.Sequences(corpus, tokenizer)
    groups = [[i] for i in range(60)] * 5
    batch = sequences.batch(groups, np.random.default_rng(0))
    tags = [tokenizer.token_to_id("<|ann|>"), tokenizer.token_to_id("<|bob|>")]
    tagged = [int(text[0]) in tags for text in batch["text"]]
    assert 0.78 < np.mean(tagged) < 0.92
    right = [tags[i % 2] == int(batch["text"][i][0]) for i in range(60) if tagged[i]]
    assert all(right)
    always = sequences.batch(groups[:60], None)
    assert all(int(text[0]) in tags for text in always["text"])
    assert int(always["text"][0][1]) == tokenizer.token_to_id("<|endofprompt|>")


def test_batches_are_a_function_of_the_epoch(corpus: Corpus) -> None:
    first, again = recipe.build(arguments(corpus)), recipe.build(arguments(corpus))
    whole = list(first.batches(3, 0))
    resumed = list(again.batches(3, 2))
    assert len(whole) == len(resumed) + 2
    for a, b in zip(whole[2:], resumed, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_steps_lower_the_loss(corpus: Corpus) -> None:
    torch.manual_seed(0)
    run = recipe.build(arguments(corpus))
    batch = next(iter(run.batches(0, 0)))
    losses = [run.step(batch, number)["loss"] for number in range(12)]
    assert losses[0] == pytest.approx(np.log(6564), abs=0.1)
    assert losses[-1] < losses[0] - 0.5
    with torch.no_grad():
        scalars = run.evaluate().scalars
    assert set(scalars) == {"loss", "accuracy"} and np.isfinite(scalars["loss"])


def test_chunked_cross_entropy_equals_torchs() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2 * ROWS + 37, 16, requires_grad=True)
    head, target = torch.nn.Linear(16, 90), torch.randint(0, 90, (2 * ROWS + 37,))
    inputs = [hidden, head.weight, head.bias]
    expected = 3 * F.cross_entropy(head(hidden), target)
    found = 3 * linear_cross_entropy(hidden, head.weight, head.bias, target)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_codes_share_their_digits_until_the_tables_are_folded(tmp_path: Path) -> None:
    lm = recipe.network(tmp_path, SPEAKERS, smoke=True)
    codes = recipe.code_features(lm.config)
    assert torch.equal(codes.embedding_table(lm.speech_embedding.weight), lm.speech_embedding.weight)
    torch.nn.init.normal_(codes.embedding)
    shared = codes.embedding_table(torch.zeros_like(lm.speech_embedding.weight))
    assert torch.equal(shared[6561:], torch.zeros_like(shared[6561:]))  # markers have no digits
    near, far = (shared[0] - shared[1]).norm(), (shared[0] - shared[6560]).norm()
    assert 0 < near < far
    run = checkpointing_like({"lm": lm.state_dict(), "codes": codes.state_dict()}, tmp_path / "run")
    _, state = recipe.export(run, tmp_path / "out", SPEAKERS, smoke=True)
    folded = codes.embedding_table(lm.speech_embedding.weight)
    torch.testing.assert_close(state["speech_embedding.weight"], folded)


def checkpointing_like(networks: dict[str, dict[str, torch.Tensor]], folder: Path) -> Path:
    """Return a run's folder with nothing but its best networks."""
    folder.mkdir()
    torch.save({"networks": networks}, folder / "best.pt")
    return folder
