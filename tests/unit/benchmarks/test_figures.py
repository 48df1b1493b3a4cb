"""The README's measured figures: read from committed results, which were made with the voice of this checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.figures import FIGURES, outdated, read, table
from benchmarks.report import machine, stamp, voice


def test_each_figure_names_its_result_its_date_and_its_command() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) == len(FIGURES)
    for figure, row in zip(FIGURES, rows, strict=True):
        record = read(figure.result)
        assert row.startswith(f"| {figure.what} | {figure.read(record)} | [{record['date']}](benchmarks/results/")
        assert row.rpartition("`")[0].rpartition("`")[2].startswith(("make ", "python benchmarks/"))


def test_a_figure_follows_its_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quality = next(figure for figure in FIGURES if figure.result == "quality")
    record = read("quality")
    for entry in record["results"]["speakers"].values():
        entry["wer"] = 0.125
    assert set(quality.read(record).split(" / ")) == {"0.12"}
    monkeypatch.setattr(figures, "FIGURES", (quality,))
    (tmp_path / "quality.json").write_text(json.dumps({"machine": machine()}))
    assert outdated(tmp_path) == []
    (tmp_path / "quality.json").write_text(json.dumps({"machine": machine() | {"voice": "another"}}))
    assert outdated(tmp_path) == ["quality"]


def test_figures_of_the_voice_were_measured_with_this_voice() -> None:
    assert outdated() == [], "measure them again with the commands in the README's table"


def test_a_voice_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "flow.pt").write_bytes(b"1")
    first = voice(tmp_path)
    (tmp_path / "flow.pt").rename(tmp_path / "hift.pt")
    renamed = voice(tmp_path)
    (tmp_path / "hift.pt").write_bytes(b"2")
    assert len({first, renamed, voice(tmp_path)}) == 3


def test_a_result_says_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/load.py", "--name", "two words"])
    assert stamp()["command"] == "python benchmarks/load.py --name 'two words'"
