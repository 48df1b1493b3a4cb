"""One sentence through every format, with the same speech tokens and the same noise, compared as sound.

The language model decodes once, in the reference run; its logits are kept and given to every other run, so that what
differs is the arithmetic of the stages alone. The family's own streaming order of calls is what runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritone.audio.distance import log_mel_difference, signal_to_noise
from tritone.build.artifacts import Artifact
from tritone.build.layout import llm_key
from tritone.errors import ArtifactError
from tritone.lm.genai import genai_llm
from tritone.parity.compare import Row, relative_error
from tritone.parity.engines import engine_call
from tritone.stage import Arrays, Call, Family, Llm

NAME = "end to end"
LOG_MEL_TOLERANCE = {"fp32": 2e-3, "fp16": 5e-2}
"""Mean log-mel difference (natural logarithm) a whole utterance may have from the fp32 modules'."""
CALLS = ("onnx", "torchscript", "tensorrt")


class Recorder:
    """An Llm that keeps the logits of every session it opens, and can give them out again."""

    def __init__(self, llm: Llm) -> None:
        self._llm = llm
        self.sessions: list[list[np.ndarray]] = []

    def __call__(self) -> Recording:
        self.sessions.append([])
        return Recording(self._llm(), self.sessions[-1])

    def replay(self) -> Llm:
        """Return an Llm whose sessions, in the order they are opened, give the recorded logits whatever they are
        asked.
        """
        waiting = iter(self.sessions)
        return lambda: Replay(next(waiting))


class Recording:
    """A session whose logits are kept."""

    def __init__(self, session: Any, kept: list[np.ndarray]) -> None:
        self._session, self._kept = session, kept

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Return logits after the prompt."""
        return self._keep(self._session.prefill(ids))

    def step(self, token: int) -> np.ndarray:
        """Return logits after one more token."""
        return self._keep(self._session.step(token))

    def close(self) -> None:
        """Closes the session behind it."""
        self._session.close()

    def _keep(self, logits: np.ndarray) -> np.ndarray:
        self._kept.append(logits)
        return logits


class Replay:
    """A session that gives recorded logits one after the other."""

    def __init__(self, kept: Sequence[np.ndarray]) -> None:
        self._rest = iter(kept)

    def prefill(self, _ids: Sequence[int]) -> np.ndarray:
        """Return the first recorded logits."""
        return next(self._rest)

    def step(self, _token: int) -> np.ndarray:
        """Return the next recorded logits."""
        return next(self._rest)

    def close(self) -> None:
        """Nothing to give back."""


def compare_speech(
    family: Family, reference: Call, built: Sequence[Artifact], out: Path, text: str, seed: int, threads: int = 1
) -> list[Row]:
    """Return one row per format and precision of which every stage is built: the whole streamed utterance beside
    torch's.

    Raises:
        ArtifactError: the family has a language model, and none that runs here is built.
    """
    llm = Recorder(genai_llm(out, built_llm(out), threads) if family.language_model else no_llm)
    request: Arrays = {
        "target_text": np.array([[text.encode()]], object),
        "seed": np.array([[seed % (1 << 31)]], np.int64),
    }
    wanted, _ = speak(family, reference, llm, request)
    rows = []
    forms = {(a.format, a.precision) for a in built if a.format in CALLS}
    for form, precision in sorted(forms):
        names = {a.name for a in built if (a.format, a.precision) == (form, precision)}
        if any(s.name not in names for s in family.stages if form != "torchscript" or s.build is not None):
            continue
        engine = engine_call(form, precision, family.stages, out, threads)
        try:
            found, seconds = speak(family, engine, llm.replay(), request)
        except ArtifactError:
            if form == "tensorrt":
                continue  # an engine for another machine; the stage rows say so
            raise
        rows.append(row(f"{form} {precision}", wanted, found, seconds, family, precision, seed))
    return rows


def row(
    form: str, wanted: np.ndarray, found: np.ndarray, seconds: float, family: Family, precision: str, seed: int
) -> Row:
    """Return the comparison of two utterances; the error is the log-mel difference."""
    rate = int(family.settings["sample_rate"])
    limit = LOG_MEL_TOLERANCE[precision]
    difference = log_mel_difference(wanted, found, rate)
    problem = ""
    if wanted.shape != found.shape:
        problem = f"{len(found)} samples, the modules give {len(wanted)}"
    elif not difference <= limit:
        problem = "the sound differs" if np.isfinite(difference) else "the sound is not finite"
    sound = {"snr_db": signal_to_noise(wanted, found), "peak_error": relative_error(wanted, found)}
    return Row(NAME, form, "streamed", {"samples": len(wanted)}, difference, limit, seconds, problem, {}, seed, sound)


def speak(family: Family, call: Call, llm: Llm, request: Arrays) -> tuple[np.ndarray, float]:
    """Return the whole streamed waveform `[samples]`, and the seconds it took."""
    began = time.perf_counter()
    chunks = list(family.synthesize(call, llm, request, lambda: False))
    return np.concatenate([chunk.reshape(-1) for chunk in chunks]), time.perf_counter() - began


def no_llm() -> Any:
    """Return the language model of a family that has none of its own."""
    raise ArtifactError("the order of calls asked for a language model, and the family describes none")


def built_llm(out: Path) -> str:
    """Return the most exact onnxruntime-genai precision in the build folder."""
    for precision in ("fp32", "int8", "int4"):
        if (out / llm_key(precision)).is_dir():
            return precision
    raise ArtifactError(f"{out} holds no language model for this machine; run: tritone build --formats llm")
