"""The language model on onnxruntime-genai: exact head and bias, sequences side by side, errors in words."""

from __future__ import annotations

import dataclasses
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.export_helpers import Smooth, toy_llm

from tritone.build import layout
from tritone.errors import ArtifactError, ConfigError, InvalidRequest
from tritone.export import to_genai
from tritone.export.to_genai import export_llm
from tritone.lm.description import CausalLm
from tritone.lm.genai import IDLE, GenaiModel, genai_sessions
from tritone.parity.compare import compare_llm


@pytest.fixture(scope="module")
def llm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    for precision in ("fp32", "int8"):
        export_llm(toy_llm(), layout.llm_path(folder, precision), precision)
    return folder


def test_an_export_leaves_no_weights_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is needed by the reference, which is loaded next."""
    made = []

    def remembered(llm: CausalLm) -> Any:
        model = narrowed(llm)
        made.append(weakref.ref(model))
        return model

    narrowed = to_genai.narrowed
    monkeypatch.setattr(to_genai, "narrowed", remembered)
    export_llm(toy_llm(), tmp_path / "llm", "fp32")
    assert [model() for model in made] == [None]


def test_teacher_forced_logits(llm_folder: Path) -> None:
    with genai_sessions(llm_folder, "fp32")() as session:
        row = compare_llm(toy_llm(), session, seed=1, steps=40)
    assert row.passed and row.error < 1e-5 and row.tolerance == 1e-3


def test_a_wrong_language_model_is_found(llm_folder: Path) -> None:
    llm = toy_llm()

    def other() -> tuple[Any, Any]:
        model, bias = toy_llm().merged()  # type: ignore[misc]
        return model, bias.flip(0)

    with genai_sessions(llm_folder, "fp32")() as session:
        row = compare_llm(dataclasses.replace(llm, merged=other), session, seed=1)
    assert not row.passed and row.problem == "logits differ"


def test_the_head_has_only_what_can_be_sampled(llm_folder: Path) -> None:
    settings = json.loads((layout.llm_path(llm_folder, "int8") / "genai_config.json").read_text())["model"]
    assert settings["vocab_size"] == 40 and settings["context_length"] == 96
    assert settings["eos_token_id"] == [37, 38, 39]
    with genai_sessions(llm_folder)() as session:
        assert session.prefill([59, 58, 3]).shape == (40,)  # prompt ids above the head's rows


def test_sequences_do_not_disturb_each_other(llm_folder: Path) -> None:
    model = GenaiModel(layout.llm_path(llm_folder, "fp32"))
    with model.session() as alone:
        wanted = [alone.prefill([41, 3, 4]), *(alone.step(t) for t in (5, 6, 7))]
        alone.rewind(4)
        np.testing.assert_allclose(alone.step(6), wanted[2], atol=1e-5)
    one, two = model.session(), model.session()
    found = [one.prefill([41, 3, 4])]
    two.prefill([50, 1])
    for token in (5, 6, 7):
        found.append(one.step(token))
        two.step(token + 20)
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    one.close()
    one.close()
    again = model.session()  # on the buffers of the first
    np.testing.assert_allclose(again.prefill([41, 3, 4]), wanted[0], atol=1e-5)
    with pytest.raises(ValueError, match="this session is closed"):
        one.step(1)


def test_sequences_in_threads_equal_those_in_turn(llm_folder: Path) -> None:
    model = GenaiModel(layout.llm_path(llm_folder, "int8"))

    def decode(start: int) -> np.ndarray:
        with model.session() as session:
            return np.stack([session.prefill([41, start]), *(session.step(t) for t in range(20))])

    wanted = [decode(start) for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decode, range(4)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_session_errors_are_explained(llm_folder: Path, tmp_path: Path) -> None:
    with genai_sessions(llm_folder)() as session:
        with pytest.raises(InvalidRequest, match="prompt: is empty"):
            session.prefill([])
        with pytest.raises(InvalidRequest, match=r"0 \+ 97 tokens do not fit the language model's 96 positions"):
            session.prefill([1] * 97)
        session.prefill([1] * 96)
        with pytest.raises(InvalidRequest, match=r"96 \+ 1 tokens do not fit"):
            session.step(1)
        with pytest.raises(ValueError, match="cannot rewind to position 97 of a sequence of 96"):
            session.rewind(97)
    with pytest.raises(ArtifactError, match=r"genai_config.json does not exist; run: tritone build"):
        genai_sessions(tmp_path)()
    broken = layout.llm_path(tmp_path, "int8")
    broken.mkdir(parents=True)
    settings = layout.llm_path(llm_folder, "int8") / "genai_config.json"
    (broken / "genai_config.json").write_bytes(settings.read_bytes())
    with pytest.raises(ArtifactError, match=r"int8 cannot be loaded \(.*run: tritone build"):
        genai_sessions(tmp_path)()


def test_exporter_errors_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision 'int3'; onnxruntime-genai has int8, int4, fp32"):
        export_llm(toy_llm(), tmp_path / "llm", "int3")
    with pytest.raises(ConfigError, match="language model llm has no merged vocabulary"):
        export_llm(dataclasses.replace(toy_llm(), merged=None), tmp_path / "llm")
    with pytest.raises(ConfigError, match="language model llm is a Smooth; only Qwen2ForCausalLM is supported"):
        export_llm(dataclasses.replace(toy_llm(), merged=lambda: (Smooth(), None)), tmp_path / "llm")


def test_buffers_of_a_few_closed_sequences_are_kept(llm_folder: Path) -> None:
    model = GenaiModel(llm_folder / "llm" / "int8")
    sessions = [model.session() for _ in range(IDLE + 2)]
    first = sessions[0].prefill([1, 2, 3])
    for session in sessions:
        session.close()
    assert len(model._idle) == IDLE, "a sequence has buffers for all positions; those of a burst are not kept"
    with model.session() as again:
        assert len(model._idle) == IDLE - 1
        np.testing.assert_array_equal(again.prefill([1, 2, 3]), first)


def test_a_sequence_whose_step_failed_is_not_used_again(llm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        """A generator that fails at a step, or when it is to start anew."""

        def __init__(self, at: str) -> None:
            self.at = at

        def rewind_to(self, _length: int) -> None:
            if self.at == "rewind":
                raise RuntimeError("out of memory")

        def token_count(self) -> int:
            return 0

        def append_tokens(self, _ids: object) -> None:
            if self.at == "step":
                raise RuntimeError("out of memory")

        def get_logits(self) -> np.ndarray:
            return np.zeros((1, 40), np.float32)

    model = GenaiModel(llm_folder / "llm" / "int8")
    for at, kept in (("step", 0), ("rewind", 0), ("never", 1)):
        monkeypatch.setattr(model, "take", lambda at=at: Broken(at))
        session = model.session()
        if at == "step":
            with pytest.raises(RuntimeError, match="out of memory"):
                session.step(1)
        else:
            session.step(1)
        session.close()
        assert len(model._idle) == kept, at
    with model.session() as session, pytest.raises(InvalidRequest):
        session.extend([])
    assert len(model._idle) == 2, "a refused prompt has not touched the sequence"
