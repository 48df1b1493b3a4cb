"""Speak one sentence in every format, with the same speech tokens and the same noise, and compare the sound.

The language model decodes once, in the reference run; its recorded logits are replayed in every other run, so that only
the arithmetic of the stages differs. The runs use the family's own streaming `synthesize`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from tritone.audio.distance import log_mel_difference, signal_to_noise
from tritone.build.artifacts import Artifact
from tritone.build.layout import llm_key
from tritone.errors import ArtifactError
from tritone.lm.genai import genai_sessions
from tritone.lm.logits import LogitsLm, Sessions
from tritone.lm.protocols import TokenSession
from tritone.parity.compare import Row, relative_error
from tritone.parity.engines import engine_call
from tritone.stage import Arrays, Call, Family

NAME = "end to end"
LOG_MEL_TOLERANCE = {"fp32": 2e-3, "fp16": 5e-2}
"""Mean log-mel difference (natural logarithm) a whole utterance may have from the fp32 modules'."""
CALLS = ("onnx", "torchscript", "tensorrt")


class Recorder:
    """Opens sessions of an engine and records the logits of each, to replay them."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.kept: list[list[np.ndarray]] = []

    def __call__(self, conditioning: np.ndarray | None = None) -> Recording:
        self.kept.append([])
        return Recording(self._sessions(conditioning), self.kept[-1])

    def replay(self) -> LogitsLm:
        """Return a language model whose sessions replay the recorded ones in order; they ignore their input."""
        waiting = iter(self.kept)
        return LogitsLm(lambda _conditioning: Replay(next(waiting)))


class Recording:
    """A session whose logits are recorded."""

    def __init__(self, session: TokenSession, kept: list[np.ndarray]) -> None:
        self._session, self._kept = session, kept

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after the prompt."""
        return self._keep(self._session.prefill(ids))

    def step(self, token: int) -> np.ndarray:
        """Return the logits after one more token."""
        return self._keep(self._session.step(token))

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after more ids."""
        return self._keep(self._session.extend(ids))

    def close(self) -> None:
        """Close the session behind it."""
        self._session.close()

    def _keep(self, logits: np.ndarray) -> np.ndarray:
        self._kept.append(logits)
        return logits


class Replay:
    """A session that returns recorded logits one after the other."""

    def __init__(self, kept: Sequence[np.ndarray]) -> None:
        self._rest = iter(kept)

    def prefill(self, _ids: Sequence[int]) -> np.ndarray:
        """Return the first recorded logits."""
        return next(self._rest)

    def step(self, _token: int) -> np.ndarray:
        """Return the next recorded logits."""
        return next(self._rest)

    def extend(self, _ids: Sequence[int]) -> np.ndarray:
        """Return the next recorded logits."""
        return next(self._rest)

    def close(self) -> None:
        """Do nothing: a recording holds nothing."""


def compare_speech(
    family: Family, reference: Call, built: Sequence[Artifact], out: Path, text: str, seed: int, threads: int = 1
) -> list[Row]:
    """Return one row for each format and precision in which every stage is built.

    A row compares the whole streamed waveform with that of the torch modules.

    Raises:
        ArtifactError: the family has a language model, and none that runs here is built.
    """
    recorder = Recorder(genai_sessions(out, built_llm(out), threads) if family.causal_lm else no_sessions)
    request: Arrays = {
        "target_text": np.array([[text.encode()]], object),
        "seed": np.array([[seed % (1 << 31)]], np.int64),
    }
    expected, _ = speak(family, reference, LogitsLm(recorder), request)
    rows = []
    forms = {(a.format, a.precision) for a in built if a.format in CALLS}
    for form, precision in sorted(forms):
        names = {a.name for a in built if (a.format, a.precision) == (form, precision)}
        if any(s.name not in names for s in family.stages if form != "torchscript" or s.build is not None):
            continue
        engine = engine_call(form, precision, family.stages, out, threads)
        try:
            waveform, seconds = speak(family, engine, recorder.replay(), request)
        except ArtifactError:
            if form == "tensorrt":
                continue  # a plan for another GPU; the stage rows say so
            raise
        rows.append(row(f"{form} {precision}", expected, waveform, seconds, family, precision, seed))
    return rows


def row(
    form: str, expected: np.ndarray, waveform: np.ndarray, seconds: float, family: Family, precision: str, seed: int
) -> Row:
    """Return the comparison of two waveforms; the error is the log-mel difference."""
    rate = int(family.settings["sample_rate"])
    limit = LOG_MEL_TOLERANCE[precision]
    difference = log_mel_difference(expected, waveform, rate)
    problem = ""
    if expected.shape != waveform.shape:
        problem = f"{len(waveform)} samples, the modules give {len(expected)}"
    elif not difference <= limit:
        problem = "the sound differs" if np.isfinite(difference) else "the sound is not finite"
    sound = {"snr_db": signal_to_noise(expected, waveform), "peak_error": relative_error(expected, waveform)}
    return Row(NAME, form, "streamed", {"samples": len(expected)}, difference, limit, seconds, problem, {}, seed, sound)


def speak(family: Family, call: Call, llm: LogitsLm, request: Arrays) -> tuple[np.ndarray, float]:
    """Return the whole streamed waveform `[samples]`, and the seconds it took."""
    began = time.perf_counter()
    chunks = list(family.synthesize(call, llm, request, lambda: False))
    return np.concatenate([chunk.reshape(-1) for chunk in chunks]), time.perf_counter() - began


def no_sessions(_conditioning: np.ndarray | None) -> NoReturn:
    """Raise ArtifactError: the family has no language model whose logits could be recorded."""
    raise ArtifactError("`synthesize` opened a language model session, and the family describes no language model")


def built_llm(out: Path) -> str:
    """Return the most exact precision of the language model for onnxruntime-genai in the build folder."""
    for precision in ("fp32", "int8", "int4"):
        if (out / llm_key(precision)).is_dir():
            return precision
    raise ArtifactError(f"{out} holds no language model for this machine; run: tritone build --formats llm")
