"""The mel that a flow makes of a corpus's own tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from training.data import Corpus
from training.recipes.cosyvoice_flow import SMOKE
from training.spoken_mel import add_spoken_mel
from tritone.families.cosyvoice.flow import Flow


def test_each_speaker_has_its_share_in_frames_of_its_tokens(tmp_path: Path) -> None:
    lines = [
        {"id": str(n), "speaker": "ab"[n % 2], "text": "a", "phones": [], "samples": 16000, "file": f"wavs/{n}.wav"}
        for n in range(6)
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    corpus = Corpus(tmp_path)
    rng = np.random.default_rng(0)
    corpus.write("tokens", (rng.integers(0, 6561, (5 + i, 1)).astype(np.int16) for i in range(len(corpus))))
    corpus.write("embedding", (rng.standard_normal((1, 192)).astype(np.float32) for _ in range(len(corpus))))
    torch.manual_seed(0)
    add_spoken_mel(corpus, Flow(SMOKE).eval(), 2, "a flow")
    store = corpus.store("spoken_mel")
    made = np.flatnonzero(store.lengths)
    assert store.source == "a flow"
    assert sorted(corpus.utterances[i].speaker for i in made) == ["a", "b"]
    assert all(store.lengths[i] == 2 * (5 + i) and not corpus.utterances[i].held_out for i in made)
    assert all(np.isfinite(store[int(i)].astype(np.float32)).all() for i in made)
