"""Tables carried over to another tokenizer's codes: exact where codes are renamed, a mean where they are merged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.corpus.data import Corpus
from training.cosyvoice import lm as cosyvoice_lm
from training.cosyvoice.new_codes import carried, carry
from tritone.errors import ConfigError

CODES = 6561
RNG = np.random.default_rng(0)
OLD = [RNG.integers(0, CODES, (200, 1)).astype(np.int16) for _ in range(10)]


def corpus(folder: Path, tokens: list[np.ndarray], samples: int = 16000) -> Corpus:
    """Recordings without sound, read by some tokenizer."""
    folder.mkdir()
    row = {"speaker": "a", "text": "", "phones": [], "samples": samples, "file": "x"}
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(row | {"id": f"u{i}"}) for i in range(len(tokens))))
    made = Corpus(folder)
    made.write("tokens", iter(tokens))
    return made


def test_renamed_codes_keep_their_rows_and_markers_stay(tmp_path: Path) -> None:
    names = RNG.permutation(CODES).astype(np.int16)
    before, after = corpus(tmp_path / "a", OLD), corpus(tmp_path / "b", [names[x] for x in OLD])
    rows = torch.randn(CODES + 3, 5)
    moved = carry(rows, before, after, CODES)
    used = np.unique(np.concatenate(OLD))
    torch.testing.assert_close(moved[names[used].astype(int)], rows[used.astype(int)])
    assert torch.equal(moved[CODES:], rows[CODES:]) and moved.shape == rows.shape
    places = torch.from_numpy(np.concatenate(OLD)[:, 0].astype(np.int64))
    unused = int(np.setdiff1d(np.arange(CODES), names[used])[0])
    torch.testing.assert_close(moved[unused], rows[places].mean(dim=0))


def test_a_code_in_place_of_several_is_their_mean(tmp_path: Path) -> None:
    before = corpus(tmp_path / "a", [np.array([[0], [1], [1], [2]], np.int16)])
    after = corpus(tmp_path / "b", [np.array([[1], [1], [1], [0]], np.int16)])
    found = carried(torch.tensor([[1.0], [4.0], [8.0]]), before.store("tokens"), after.store("tokens"))
    assert found[:, 0].tolist() == pytest.approx([8.0, 3.0, 4.25])


def test_what_digits_share_is_not_counted_twice(tmp_path: Path) -> None:
    """Read by the same tokenizer, a language model's tables come out as they went in."""
    both = corpus(tmp_path / "a", [np.arange(CODES, dtype=np.int16)[:, None]])
    lm = cosyvoice_lm.network(tmp_path, ["a"], smoke=True)
    codes = cosyvoice_lm.code_features(lm.config)
    torch.nn.init.normal_(codes.embedding)
    torch.nn.init.normal_(codes.head)
    embedding, head = codes.embedding_table(lm.speech_embedding.weight), codes.head_table(lm.llm_decoder.weight)
    cosyvoice_lm.carry_tables(lm, codes, both, both)
    torch.testing.assert_close(codes.embedding_table(lm.speech_embedding.weight), embedding, atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.head_table(lm.llm_decoder.weight), head, atol=1e-4, rtol=0)


def test_other_recordings_and_other_rates_are_refused(tmp_path: Path) -> None:
    before = corpus(tmp_path / "a", OLD)
    with pytest.raises(ConfigError, match=r"--start-data .*a holds other recordings than .*b"):
        carry(torch.zeros(CODES, 1), before, corpus(tmp_path / "b", OLD, samples=99), CODES)
    with pytest.raises(ConfigError, match="different token rates"):
        carry(torch.zeros(CODES, 1), before, corpus(tmp_path / "c", [x[::2] for x in OLD]), CODES)
