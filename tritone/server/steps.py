"""One step of a family as a server process runs it: its networks opened once, then lists of requests in, results out.

Needs NumPy and onnxruntime; the checkpoint's torch weights are never touched.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritone.call import onnx_call
from tritone.catalog import open_family
from tritone.errors import ConfigError, InvalidRequest, TritoneError
from tritone.lm.genai import genai_llm
from tritone.stage import Arrays, Family, Llm

STREAM = "stream"
WARM_UP_TEXT = "Ready."


class Step:
    """A host step of the ensemble, or the streaming entry when `step` is "stream".

    Args:
        values: `step`, `model_dir`, `build_dir`, and optionally `threads` per network (default: TRITONE_THREADS or 1).
        on_token: called for every token the language model decodes.
    """

    def __init__(self, values: Mapping[str, str], on_token: Callable[[], None] = lambda: None) -> None:
        self.family = open_family(Path(values["model_dir"]))
        build = Path(values["build_dir"])
        threads = int(values.get("threads") or os.environ.get("TRITONE_THREADS", "1"))
        self.streams = values["step"] == STREAM
        self._host = None if self.streams else find_host(self.family, values["step"])
        self._call = onnx_call(build, self.family.stages, threads=threads)
        uses_llm = self._host is None or "llm" in self._host.uses
        self._llm = counted(genai_llm(build, threads=threads), on_token) if uses_llm else no_llm
        self.warm_up()

    def warm_up(self) -> None:
        """Open and run every network of this step once."""
        if self._host is None:
            next(self.stream({"target_text": np.array([[WARM_UP_TEXT.encode()]], object)}), None)
            return
        for name in self._host.uses:
            if name == "llm":
                session = self._llm()
                session.prefill([0, 1, 2])
                session.close()
            else:
                stage = self.family.stage(name)
                self._call(name, **stage.example(stage.sizes("opt")))

    def run(self, requests: list[Arrays]) -> list[Any]:
        """A result or an exception for each request; one at fault does not disturb the others."""
        results: list[Any] = [refuse_batches(request) for request in requests]
        good = [index for index, result in enumerate(results) if result is None]
        for index, answer in zip(good, self._answers([requests[index] for index in good]), strict=True):
            results[index] = answer
        return results

    def _answers(self, requests: list[Arrays]) -> list[Any]:
        """The host step's results; when a batch fails as a whole, each of its requests is tried alone."""
        assert self._host is not None
        if not requests:
            return []
        try:
            return list(self._host.run(self._call, self._llm, requests))
        except Exception as error:
            if len(requests) > 1:
                return [answer for request in requests for answer in self._answers([request])]
            if not isinstance(error, TritoneError):
                traceback.print_exc()
            return [error]

    def stream(self, request: Arrays, cancelled: Callable[[], bool] = lambda: False) -> Iterator[np.ndarray]:
        """Waveform chunks `[samples]` of one request; the work ends soon after `cancelled` says so."""
        problem = refuse_batches(request)
        if problem is not None:
            raise problem
        try:
            yield from self.family.synthesize(self._call, self._llm, request, cancelled)
        except TritoneError:
            raise
        except Exception:
            traceback.print_exc()
            raise


def find_host(family: Family, name: str) -> Any:
    """The family's host step of that name; ConfigError lists those that exist."""
    for host in family.hosts:
        if host.name == name:
            return host
    names = ", ".join([*(host.name for host in family.hosts), STREAM])
    raise ConfigError(f"{family.name} has no step {name!r}; its steps are {names}")


def refuse_batches(request: Arrays) -> InvalidRequest | None:
    """The error for a request that carries more than one utterance; the server forms batches itself."""
    for name, array in request.items():
        if array.ndim == 0 or array.shape[0] != 1:
            rows = array.shape[0] if array.ndim else 0
            return InvalidRequest(
                name, f"has {rows} rows; send one utterance per request, the server batches them itself"
            )
    return None


class Counted:
    """A decoding session that reports every token."""

    def __init__(self, session: Any, on_token: Callable[[], None]) -> None:
        self._session, self._on_token = session, on_token

    def prefill(self, ids: list[int]) -> np.ndarray:
        """Logits after the prompt."""
        logits: np.ndarray = self._session.prefill(ids)
        return logits

    def step(self, token: int) -> np.ndarray:
        """Logits after one more token."""
        self._on_token()
        logits: np.ndarray = self._session.step(token)
        return logits

    def close(self) -> None:
        """Give the session's memory back."""
        self._session.close()


def counted(llm: Llm, on_token: Callable[[], None]) -> Llm:
    """`llm` whose sessions call `on_token` for every decoded token."""
    return lambda: Counted(llm(), on_token)


def no_llm() -> Any:
    """The language model of a step that declares none."""
    raise ConfigError("this step uses the language model without declaring it in `uses`")
