"""One step of a family as a server process runs it: its networks opened once, then lists of requests in, results out.

The networks run in the process itself on onnxruntime, or as models of the same server, whatever the config says.
The checkpoint's torch weights are not touched unless the config asks for torch.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritone.catalog import open_family
from tritone.engines.onnx import onnx_call
from tritone.engines.open import open_call, open_llm
from tritone.engines.torch_run import TorchRun
from tritone.errors import ConfigError, InvalidRequest, TritoneError
from tritone.lm.description import MissingLm
from tritone.lm.genai import genai_llm
from tritone.lm.protocols import Llm
from tritone.lm.served import served_llm
from tritone.server.bls import STAGE, Cancelled, bls_call, stage_prefix, stoppable
from tritone.stage import Arrays, Call, Family

STREAM = "stream"
STAGES = ("onnxruntime", "torchscript", "torch", "triton")
LLMS = ("onnxruntime-genai", "served")
WARM_UP_TEXT = "Ready."


class Step:
    """A host step of the ensemble, or the streaming entry when `step` is "stream".

    Args:
        values: `step`, `model_dir`, `build_dir`, and optionally `threads` per network (default: TRITONE_THREADS or 1),
            `stages` ("onnxruntime", "torchscript" or "torch", in this process, or "triton", models of the same server),
            `llm` ("onnxruntime-genai" or "served", with `llm_url` and `llm_engine`).
        on_token: called for every token the language model decodes.
    """

    def __init__(self, values: Mapping[str, str], on_token: Callable[[], None] = lambda: None) -> None:
        self.family = open_family(Path(values["model_dir"]))
        self.streams = values["step"] == STREAM
        self._host = None if self.streams else find_host(self.family, values["step"])
        stages, build = chosen(values, "stages", STAGES), Path(values["build_dir"])
        self._stages_elsewhere = stages == "triton"
        if self._stages_elsewhere:
            self._call: Call = bls_call(self.family.stages, stage_prefix(self.family.name))
        else:
            run = TorchRun(threads=threads(values))
            self._call = open_call(stages, self.family.stages, build, run, Path(values["model_dir"]))
        self._llm: Llm = MissingLm("this step uses the language model without declaring it in `uses`")
        if self._host is None or "llm" in self._host.uses:
            self._llm = open_llm(self.family, self._call, lambda _lm: causal_llm(values))
        self._llm.count(on_token)
        self.warm_up()

    def warm_up(self) -> None:
        """Open and run every network of this step once; the server itself warms up those that are its models."""
        if self._host is None and not self._stages_elsewhere:
            next(self.stream({"target_text": np.array([[WARM_UP_TEXT.encode()]], object)}), None)
            return
        for name in ("llm",) if self._host is None else self._host.uses:
            if name == "llm":
                self._llm.warm_up()
            elif not self._stages_elsewhere:
                stage = self.family.stage(name)
                self._call(name, **stage.example(stage.sizes("opt")))

    def run(self, requests: list[Arrays]) -> list[Any]:
        """Return a result or an exception for each request; one at fault does not disturb the others."""
        results: list[Any] = [refuse_batches(request) for request in requests]
        good = [index for index, result in enumerate(results) if result is None]
        for index, answer in zip(good, self._answers([requests[index] for index in good]), strict=True):
            results[index] = answer
        return results

    def _answers(self, requests: list[Arrays]) -> list[Any]:
        """Return the host step's results; when a batch fails as a whole, each of its requests is tried alone."""
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

    def stream(
        self, request: Arrays, cancelled: Callable[[], bool] = lambda: False, pieces: Iterable[str] | None = None
    ) -> Iterator[np.ndarray]:
        """Yield waveform chunks `[samples]` of one request; the work ends soon after `cancelled` says so.

        With `pieces` these are the text, which may still be arriving.
        """
        problem = refuse_batches(request)
        if problem is not None:
            raise problem
        call = stoppable(self._call, cancelled)
        try:
            if pieces is None:
                yield from self.family.synthesize(call, self._llm, request, cancelled)
                return
            if self.family.synthesize_pieces is None:
                raise InvalidRequest(
                    "sequence_id",
                    f"was sent, but {self.family.name} reads a text at once; send it in one request without",
                )
            yield from self.family.synthesize_pieces(call, self._llm, request, pieces, cancelled)
        except Cancelled:
            return
        except TritoneError:
            raise
        except Exception:
            traceback.print_exc()
            raise


class StageModel:
    """A single stage on onnxruntime as a model of its own, with its tensors just as declared.

    Args:
        values: as for a step; `step` is "stage:" and the stage's name.
    """

    streams = False

    def __init__(self, values: Mapping[str, str]) -> None:
        name = values["step"].removeprefix(STAGE)
        self._name = name
        stage = open_family(Path(values["model_dir"])).stage(name)
        self._call = onnx_call(Path(values["build_dir"]), [stage], threads=threads(values), eager=True)

    def run(self, requests: list[Arrays]) -> list[Any]:
        """Return a result or an exception for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Arrays) -> Any:
        try:
            return self._call(self._name, **request)
        except Exception as error:
            return error


def open_step(values: Mapping[str, str], on_token: Callable[[], None] = lambda: None) -> Step | StageModel:
    """Open what the config's parameters name: a host step, the streaming entry or a single stage."""
    return StageModel(values) if values["step"].startswith(STAGE) else Step(values, on_token)


def threads(values: Mapping[str, str]) -> int:
    """Threads of each network."""
    return int(values.get("threads") or os.environ.get("TRITONE_THREADS", "1"))


def chosen(values: Mapping[str, str], key: str, known: tuple[str, ...]) -> str:
    """Return the value of a parameter with a few possible ones, the first when it is left out.

    ConfigError lists them.
    """
    value = values.get(key) or known[0]
    if value not in known:
        raise ConfigError(f"the parameter {key} is {value!r}; it can be {', '.join(known)}")
    return value


def causal_llm(values: Mapping[str, str]) -> Llm:
    """Return the language model on the engine that the parameters name."""
    build = Path(values["build_dir"])
    if chosen(values, "llm", LLMS) == "onnxruntime-genai":
        return genai_llm(build, threads=threads(values))
    return served_llm(build, values.get("llm_url", ""), values.get("llm_engine", ""))


def find_host(family: Family, name: str) -> Any:
    """Return the family's host step of that name; ConfigError lists those that exist."""
    hosts = (*family.hosts, *family.services)
    for host in hosts:
        if host.name == name:
            return host
    names = ", ".join([*(host.name for host in hosts), STREAM])
    raise ConfigError(f"{family.name} has no step {name!r}; its steps are {names}")


def refuse_batches(request: Arrays) -> InvalidRequest | None:
    """Return the error for a request that carries more than one utterance; the server forms batches itself."""
    for name, array in request.items():
        if array.ndim == 0 or array.shape[0] != 1:
            rows = array.shape[0] if array.ndim else 0
            return InvalidRequest(
                name, f"has {rows} rows; send one utterance per request, the server batches them itself"
            )
    return None
