"""The speech tokenizer: padding and context do not change codes, and the exported file has the published interface."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from training import prepare
from training.core import loop
from training.corpus.data import Corpus
from training.cosyvoice import tokenizer as recipe
from training.cosyvoice.networks.tokenizer import CODES, Tokenizer, codes_of, quantize
from training.cosyvoice.tokenizer import edits, plain_phones, redundancy, write_onnx


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(dim=48, blocks=2).eval()


def feats(batch: int, frames: int) -> torch.Tensor:
    return torch.randn(batch, 128, frames, generator=torch.Generator().manual_seed(frames))


def test_codes_are_base_three_numbers_lowest_digit_first() -> None:
    digits = torch.tensor([[[-1.0] * 8, [1.0] * 8, [0.0] + [-1.0] * 7, [-1.0] * 7 + [1.0]]])
    assert codes_of(digits, torch.ones(1, 4, 1)).tolist() == [[0, CODES - 1, 1, 2 * 3**7]]


def test_rounding_passes_gradients_through() -> None:
    latent = torch.tensor([0.4, 0.6, -0.9], requires_grad=True)
    quantize(latent).sum().backward()
    assert quantize(latent).tolist() == pytest.approx([0.0, 1.0, -1.0]) and latent.grad.tolist() == [1, 1, 1]


def test_padding_changes_nothing(tokenizer: Tokenizer) -> None:
    x = feats(1, 90)
    alone = tokenizer(x, torch.tensor([90], dtype=torch.int32))
    padded = torch.cat([torch.cat([x, 7 * feats(1, 50)], 2), feats(1, 140)])
    together = tokenizer(padded, torch.tensor([90, 140], dtype=torch.int32))
    assert alone.shape == (1, 22) and together.shape == (2, 35) and alone.unique().numel() > 5
    assert torch.equal(together[0, :22], alone[0]) and not together[0, 22:].any()


def test_context_is_local(tokenizer: Tokenizer) -> None:
    x = feats(1, 400)
    changed = x.clone()
    changed[:, :, 200:] = feats(1, 200)
    length = torch.tensor([400], dtype=torch.int32)
    a, b = tokenizer.latent(x, length)[0], tokenizer.latent(changed, length)[0]
    reach = 2 * 3 + 1
    assert torch.equal(a[:, : 50 - reach], b[:, : 50 - reach]) and not torch.equal(a[:, 49], b[:, 49])


def test_exported_file_has_the_published_interface(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "speech_tokenizer_v2.onnx"
    write_onnx(tokenizer, path)
    session = onnxruntime.InferenceSession(str(path))
    inputs = [(node.name, node.type) for node in session.get_inputs()]
    assert inputs == [("feats", "tensor(float)"), ("feats_length", "tensor(int32)")]
    assert session.get_outputs()[0].type == "tensor(int32)"
    for batch, frames in ((1, 50), (1, 333), (3, 120)):
        x, length = feats(batch, frames), torch.full((batch,), frames, dtype=torch.int32)
        length[-1] -= 9 if batch > 1 else 0
        found = session.run(None, {"feats": x.numpy(), "feats_length": length.numpy()})[0]
        expected = tokenizer(x, length).numpy()
        assert found.shape == (batch, frames // 4) and np.mean(found != expected) < 0.02
    onnx.checker.check_model(str(path), full_check=True)


def test_edit_distance() -> None:
    assert [edits(*pair) for pair in (([1, 2, 3], [1, 3]), ([], [4, 5]), ([1, 2], [2, 1]), ([7], []), ([3], [3]))] == [
        1,
        2,
        2,
        1,
        0,
    ]


def test_stress_is_not_a_phone_of_its_own() -> None:
    labels = plain_phones()
    assert labels["ˈeɪ"] == labels["eɪ"] == labels["ˌeɪ"] != labels["ə"] and min(labels.values()) == 1


def test_redundancy_is_zero_for_codes_used_evenly_and_not_for_repeated_digits() -> None:
    every = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)))[None]
    ones = torch.ones(1, 81, 1)
    assert float(redundancy(every, ones)) == pytest.approx(0, abs=1e-10)
    repeated = every.clone()
    repeated[..., 1] = repeated[..., 0]
    assert float(redundancy(repeated, ones)) == pytest.approx(2 * (2 / 3) ** 2 / 4, rel=1e-5)
    assert float(redundancy(every.abs(), ones)) == pytest.approx((4 / 9) + (2 / 9 - 2 / 3) ** 2, rel=1e-5)
    padded = torch.cat([every, torch.full((1, 9, 4), 5.0)], dim=1)
    assert float(redundancy(padded, torch.cat([ones, torch.zeros(1, 9, 1)], dim=1))) == pytest.approx(0, abs=1e-10)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Eight utterances of two speakers whose features are noise."""
    rng = np.random.default_rng(0)
    row = {"text": "Hi.", "phones": ["h", "_", "ˈaɪ"], "samples": 16000, "file": "x"}
    lines = [json.dumps(row | {"id": f"u{i}", "speaker": "ab"[i % 2]}) for i in range(8)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    made = Corpus(tmp_path)
    made.write("whisper", (rng.normal(0, 1, (100 + i, 128)).astype(np.float16) for i in range(8)))
    made.write("mel", (rng.normal(-5, 2, (50 + i // 2, 80)).astype(np.float16) for i in range(8)))
    return made


def test_a_tiny_run_and_another_that_begins_with_it(corpus: Corpus, tmp_path: Path) -> None:
    given = {"data": corpus.folder, "device": torch.device("cpu"), "smoke": True, "seed": 0, "rate": 1e-3}
    torch.manual_seed(0)
    run = recipe.build(argparse.Namespace(**given, start=None))
    assert loop.train(run, tmp_path / "out", steps=3, eval_every=3, save_every=3) == 3
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"mel_l1", "phone_error_rate", "perplexity", "score"} <= row.keys()
    again = recipe.build(argparse.Namespace(**given, start=tmp_path / "out")).networks
    for name, network in run.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, again[name].state_dict()[key]), (name, key)


def test_tokens_come_from_a_file_or_from_a_runs_best_network(corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(1)
    (tmp_path / "run").mkdir()
    best = Tokenizer(**recipe.sizes(smoke=False))
    torch.save({"networks": {"tokenizer": best.state_dict()}}, tmp_path / "run" / "best.pt")
    file = prepare.exported(tmp_path / "run", "cosyvoice_tokenizer")
    assert file.parent == tmp_path / "run" and prepare.exported(file, "cosyvoice_tokenizer") == file
    prepare.add_tokens(corpus, file)
    feats = torch.from_numpy(corpus.store("whisper")[3].T[None].astype(np.float32))
    with torch.no_grad():
        wanted = best.eval()(feats, torch.tensor([feats.shape[2]], dtype=torch.int32))
    found = corpus.store("tokens")[3][:, 0]
    assert (found == wanted[0].numpy()).mean() > 0.9 and corpus.store("tokens").source == prepare.digest(file)
