"""The model card says what the runs and reports say."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from training.core import lineage
from training.core.run import FINISHED
from training.cosyvoice.card import RUNS, model_card


def test_card_quotes_runs_and_reports(tmp_path: Path) -> None:
    for name in RUNS:
        (tmp_path / name).mkdir()
        (tmp_path / name / FINISHED).write_text('{"steps": 90, "epochs": 2, "minutes": 7.5, "metric": "loss"}')
        rows = [
            {"step": 30, "epoch": 0, "minutes": 2, "loss": 1.25},
            {"step": 60, "epoch": 1, "minutes": 5, "loss": 1.5},
        ]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lineage.record(tmp_path / "before", tmp_path / "tokenizer")
    (tmp_path / "before" / FINISHED).write_text('{"steps": 10, "minutes": 2.0}')
    lineage.record(tmp_path / "lm", tmp_path / "before")
    utterances = [SimpleNamespace(speaker=speaker, samples=16000 * 1800) for speaker in ("ann", "bob", "bob")]
    speakers = {"ann": {"wer": 0.25, "sentences": 30, "heard": [{"text": "x"}]}}
    report = {"title": "Speech quality", "date": "2026-01-02", "machine": {"processor": "P", "cores": 2}}
    (tmp_path / "quality.json").write_text(json.dumps(report | {"results": {"speakers": speakers}}))

    class Corpus(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.utterances)

    corpus = Corpus(utterances=utterances, speakers=["ann", "bob"])
    card = model_card(corpus, tmp_path, {"llm": 5_000_000}, [tmp_path / "quality.json"])  # type: ignore[arg-type]
    assert "| ann | 1 | 0.50 |" in card and "| bob | 2 | 1.00 |" in card and "| all | 3 | 1.50 |" in card
    assert "| llm.pt | 5.00 M |" in card
    assert "| flow (speech tokens to mel) | 90 | 2 | 7.5 | loss 1.25 (step 30) |" in card
    assert "| language model (phones to speech tokens) | 100 + 90 | 2 | 9.5 + 7.5 | loss 1.25 (step 30) |" in card
    assert "| HiFT vocoder | 90 | 2 | 7.5 | loss 1.5 (step 60) |" in card  # the newest, as it is taken
    assert "Speech quality, 2026-01-02, P, 2 cores." in card
    assert "| speakers | wer | sentences |" in card and "| ann | 0.25 | 30 |" in card and "heard" not in card


def test_a_run_that_began_with_an_unfinished_one_owes_nothing_known(tmp_path: Path) -> None:
    lineage.record(tmp_path / "out", tmp_path / "start")
    assert lineage.before(tmp_path / "out") == (0, 0.0)
    assert lineage.before(tmp_path / "start") == (0, 0.0)
