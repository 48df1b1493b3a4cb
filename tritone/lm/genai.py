"""The language model on onnxruntime-genai: one loaded network, any number of sequences decoded at the same time."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritone.build.files import read_json
from tritone.build.layout import llm_path
from tritone.errors import ArtifactError, InvalidRequest
from tritone.lm.logits import LogitsLm

CONFIG = "genai_config.json"
IDLE = 4
"""Sequences kept for the next requests; each has buffers for all positions (nano 12 MB, a published model 100 MB)."""


class GenaiModel:
    """A loaded model folder; `session()` starts a sequence.

    Buffers of a few closed sessions are used again: making one costs several steps' time.

    Args:
        folder: holds `genai_config.json` and the ONNX file it names.
        threads: of one decoding step; sequences in different threads run side by side.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        import onnxruntime_genai as og

        folder = Path(folder)
        settings = read_json(folder / CONFIG)
        if not settings:
            raise ArtifactError(f"{folder / CONFIG} does not exist; run: tritone build")
        self.vocabulary = int(settings["model"]["vocab_size"])
        self.positions = int(settings["model"]["context_length"])
        options = {
            "intra_op_num_threads": threads,
            "inter_op_num_threads": 1,
            "session.intra_op.allow_spinning": "0",
        }
        config = og.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        try:
            self._model = og.Model(config)
        except RuntimeError as error:
            raise ArtifactError(f"{folder} cannot be loaded ({error}); run: tritone build") from error
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def session(self) -> GenaiSession:
        """Return a fresh sequence; close it when done."""
        return GenaiSession(self)

    def take(self) -> Any:
        """Return a generator at position 0."""
        import onnxruntime_genai as og

        with self._lock:
            if self._idle:
                return self._idle.pop()
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=self.positions, do_sample=False)
        return og.Generator(self._model, params)

    def give_back(self, generator: Any) -> None:
        """Keep a generator for the next session, unless enough are kept, or it cannot start anew."""
        try:
            generator.rewind_to(0)
        except Exception:  # the engine's errors are of several kinds
            return
        with self._lock:
            if len(self._idle) < IDLE:
                self._idle.append(generator)


class GenaiSession:
    """One sequence; logits are float32 `[vocabulary]` after the last position. One thread at a time."""

    def __init__(self, model: GenaiModel) -> None:
        self._model = model
        self._generator: Any = model.take()
        self._sound = True

    def __enter__(self) -> GenaiSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def length(self) -> int:
        """Positions decoded so far."""
        return int(self._open().token_count())

    def prefill(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return logits after a prompt; starts the sequence over."""
        self._open().rewind_to(0)
        return self._append(np.asarray(ids, np.int32))

    def step(self, token: int) -> np.ndarray:
        """Return logits after one more token."""
        return self._append(np.array([token], np.int32))

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Return logits after more merged ids, text or speech."""
        return self._append(np.asarray(ids, np.int32))

    def rewind(self, length: int) -> None:
        """Forget everything from position `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind to position {length} of a sequence of {self.length}")
        self._open().rewind_to(length)

    def close(self) -> None:
        """Give the sequence's buffers back, unless a step has failed in them; calling it again has no effect."""
        if self._generator is not None:
            generator, self._generator = self._generator, None
            if self._sound:
                self._model.give_back(generator)

    def _open(self) -> Any:
        if self._generator is None:
            raise ValueError("this session is closed; open another one")
        return self._generator

    def _append(self, ids: np.ndarray) -> np.ndarray:
        generator = self._open()
        if not ids.size:
            raise InvalidRequest("prompt", "is empty; the language model needs at least one token")
        if generator.token_count() + ids.size > self._model.positions:
            raise InvalidRequest(
                "prompt",
                f"{generator.token_count()} + {ids.size} tokens do not fit the language model's "
                f"{self._model.positions} positions; send a shorter text or reference",
            )
        self._sound = False  # a generator whose step fails is in no known state
        generator.append_tokens(ids)
        logits: np.ndarray = generator.get_logits()
        self._sound = True
        # The engine's buffer is written again by the next step.
        return np.array(logits[0, -1] if logits.ndim == 3 else logits[-1], np.float32)


class GenaiSessions:
    """Opens sequences on one model, which the first call or `load()` loads."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._model: GenaiModel | None = None
        self._lock = threading.Lock()

    def load(self) -> GenaiModel:
        """Return the model, loaded once."""
        with self._lock:
            if self._model is None:
                self._model = GenaiModel(self._folder, self._threads)
            return self._model

    def __call__(self, _conditioning: np.ndarray | None = None) -> GenaiSession:
        return self.load().session()


def genai_sessions(build: str | Path, precision: str = "int8", threads: int = 1) -> GenaiSessions:
    """Return the sessions of a build folder's language model."""
    return GenaiSessions(llm_path(build, precision), threads)


def genai_llm(build: str | Path, precision: str = "int8", threads: int = 1) -> LogitsLm:
    """Return the language model of a build folder."""
    return LogitsLm(genai_sessions(build, precision, threads))
