"""A complete server's parts: which entries need a model, and how the measured speed is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritone.catalog import open_family
from tritone.client.errors import InvalidArgument
from tritone.door.entries import entries_of
from tritone.server.repository import render
from tritone.supervisor import speed
from tritone.supervisor.service import needs


def test_each_model_of_a_repository_has_the_entries_that_need_it(tiny_v2: Path) -> None:
    family = open_family(tiny_v2)
    needed = needs(family)
    for target in ("cpu", "stages"):
        models = {name.split("/")[0] for name in render(family, target)}
        assert models <= needed.keys()
    assert needed["cosyvoice2_llm"] == needed["cosyvoice2"] == {"cosyvoice2"}
    assert needed["cosyvoice2_stream"] == {"cosyvoice2_stream"}
    assert needed["speech_tokenizer"] == {"speech_tokenizer"}
    assert needed["cosyvoice2_stage_vocoder"] == set(entries_of(family))


class Client:
    """Speaks a second of silence in two chunks, or refuses the text."""

    sample_rate = 100
    refuses = False

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stream(self, _text: str) -> Any:
        """Yield two chunks."""
        if self.refuses:
            raise InvalidArgument("target_text: speaks another language")
        yield from (np.zeros(50, np.float32),) * 2


def test_speed_is_the_speech_of_all_streams_over_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SpeechClient", Client)
    ticks = iter([0.0, *[0.25] * 20])
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(ticks))
    assert speed.measure("unix:x", "voice") == speed.STREAMS * 1.0 / 0.25


def test_a_voice_that_cannot_speak_the_text_counts_by_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SpeechClient", Client)
    monkeypatch.setattr(Client, "refuses", True)
    monkeypatch.setattr(speed.os, "cpu_count", lambda: 3)
    assert speed.measure("unix:x", "voice") == 6.0
