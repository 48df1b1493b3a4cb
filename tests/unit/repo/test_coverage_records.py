"""The coverage table says what the committed records say: what passed, what was left out, what only stands in fp16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export import coverage, docs, recorded
from tritone.catalog import KINDS, published_family

IDENTITY = {"checkpoint": "a", "description": "b"}


def entry(precision: str = "fp32", points: tuple[str, ...] = recorded.POINTS, **changes: Any) -> dict[str, Any]:
    compared = [{"point": point, "sizes": {}, "error": 2e-5, "limit": 1e-4} for point in points]
    values = {
        "name": "vocoder", "format": "onnx", "precision": precision, "date": "2026-01-02", "whole_fp32": False,
        "own_file": False, "failure": "", "seconds": 1.0, "tools": {"onnx": "1"}, "identity": IDENTITY,
        "compared": compared,
    }  # fmt: skip
    return {**values, **changes}


@pytest.mark.parametrize(
    ("entries", "told", "worst"),
    [
        ([], "not recorded", "-"),
        ([entry()], "fp32: 1 of 2 (2026-01-02)", "fp32 20.0%"),
        ([entry(points=recorded.POINTS[:2])], "fp32: 1 of 2, largest sizes not run for 1 (2026-01-02)", "fp32 20.0%"),
        (
            [entry(), entry("fp16", whole_fp32=True, date="2026-03-04")],
            "fp32: 1 of 2; fp16: 1 of 2, 1 wholly in fp32 (2026-01-02 to 2026-03-04)",
            "fp32 20.0%, fp16 20.0%",
        ),
        ([entry(failure="y differs")], "fp32: 0 of 2, 1 failed (2026-01-02)", "fp32 20.0%"),
        ([entry(points=())], "fp32: 1 of 2, compiled, not run (2026-01-02)", "-"),
        ([entry(points=(), own_file=True)], "fp32: 1 of 2, 1 the checkpoint's own (2026-01-02)", "-"),
    ],
)
def test_cells_of_a_row(entries: list[Any], told: str, worst: str) -> None:
    assert recorded.summary(entries, ["vocoder", "f0_predictor"]) == (told, worst)


def test_an_error_that_is_not_finite_is_infinitely_wrong() -> None:
    bad = entry()
    bad["compared"][0]["error"] = None
    assert recorded.summary([bad], ["vocoder"])[1] == "fp32 inf%"
    assert recorded.rows([bad])[2].startswith("| `vocoder` | onnx fp32 | not finite | 2.0e-05 |")


def test_sizes_left_out_are_said_in_the_page() -> None:
    (line,) = recorded.rows([entry("fp16", points=("smallest", "usual"), whole_fp32=True)])[2:]
    assert line == ("| `vocoder` | onnx fp16 | 2.0e-05 | 2.0e-05 | not run | 1.0e-04 (wholly in fp32) | 2026-01-02 |")


def test_what_has_to_be_built_again() -> None:
    short = entry(points=("smallest", "usual"))
    assert coverage.missing(entry(), IDENTITY, quick=False) == ""
    assert coverage.missing(short, IDENTITY, quick=True) == ""
    assert coverage.missing(entry(points=()), IDENTITY, quick=False) == ""
    assert coverage.missing(short, IDENTITY, quick=False) == "was not compared at the largest sizes"
    assert coverage.missing(None, IDENTITY, quick=True) == "is not recorded"
    assert coverage.missing(entry(), {**IDENTITY, "checkpoint": "c"}, quick=True) == (
        "was recorded for other weights or code"
    )


def test_the_table_follows_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "RECORDS", tmp_path)
    before = docs.coverage()
    assert before.count("not recorded") == before.count("\n") - 1
    record = {"family": "cosyvoice2", "checkpoint": "nano", "artifacts": {"onnx/vocoder.onnx": entry()}}
    (tmp_path / "cosyvoice2.json").write_text(json.dumps(record))
    assert "| 8 of 8 stages | fp32: 1 of 8 (2026-01-02) | fp32 20.0% | fp32 | - |" in docs.coverage()


@pytest.mark.parametrize("name", [published_family(kind).name for kind in KINDS])
def test_committed_records_are_within_their_limits(name: str) -> None:
    for key, made in recorded.record_of(name)["artifacts"].items():
        assert not made["failure"] and all(recorded.share(point) <= 1 for point in made["compared"]), key
        assert key.startswith(f"{made['format']}/")
