"""Flags of requests: a file for each, in a folder that the door and the models share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritone.server.flags import VARIABLE, Flags


def test_a_mark_is_seen_by_others_until_it_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    door, model = Flags(tmp_path), Flags.from_environment()
    door.mark_cancelled("a-1")
    door.mark_paused("a-2")
    assert (model.cancelled("a-1"), model.paused("a-1")) == (True, False)
    assert (model.cancelled("a-2"), model.paused("a-2")) == (False, True)
    door.unmark_paused("a-2")
    door.clear("a-1")
    assert not (model.cancelled("a-1") or model.paused("a-2"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    flags = Flags.from_environment()
    flags.mark_cancelled("a-1")
    assert not flags.known("a-1") and not flags.cancelled("a-1")


@pytest.mark.parametrize("request_id", ["", "../a", "a/b", "a.b", "x" * 65, "ä"])
def test_an_id_that_no_door_gave_names_no_file(tmp_path: Path, request_id: str) -> None:
    flags = Flags(tmp_path / "flags")
    (tmp_path / "flags").mkdir()
    flags.mark_cancelled(request_id)
    assert not flags.known(request_id) and not flags.cancelled(request_id)
    assert [path.name for path in tmp_path.rglob("*")] == ["flags"]
