"""The models of a server, as its Python processes run them: a host step, the stream, or a single stage.

Networks are opened once. They run in the process itself (on onnxruntime, TorchScript or torch) or as stage models of
the same server; the model's config says which. Torch weights are opened only if the config asks for torch.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritone.audio.level import checked_chunks
from tritone.calls import Gone, each, stoppable
from tritone.catalog import open_family
from tritone.engines.onnx import onnx_call
from tritone.engines.open import check_choices, open_call, open_llm
from tritone.engines.torch_run import TorchRun
from tritone.errors import Cancelled, ConfigError, InvalidRequest, TritoneError
from tritone.lm.description import MissingLm
from tritone.lm.genai import genai_llm
from tritone.lm.protocols import Llm
from tritone.lm.served import served_llm
from tritone.server.bls import STAGE, bls_call, stage_prefix
from tritone.server.checks import checked_answer, request_problem
from tritone.stage import Arrays, Call, Family, Host

STREAM = "stream"
STAGES = ("onnxruntime", "torchscript", "torch", "triton")
LLMS = ("onnxruntime-genai", "served")
WARM_UP_TEXT = "Ready."


class FamilyModel:
    """A family with its networks and language model opened as the parameters of a model's config ask.

    Args:
        values: `step`, `model_dir`, `build_dir`, and optionally `threads` per network (default: TRITONE_THREADS or 1),
            `stages` ("onnxruntime", "torchscript" or "torch", in this process, or "triton", models of the same server),
            `llm` ("onnxruntime-genai" or "served", with `llm_url` and `llm_engine`), and for networks of torch
            `device`, `dtype` and `attention`.
        on_token: called for every token the language model decodes.
    """

    def __init__(self, values: Mapping[str, str], on_token: Callable[[], None] = lambda: None) -> None:
        device = values.get("device") or "cpu"
        choices = values.get("dtype", ""), values.get("attention", "")
        self.family = open_family(Path(values["model_dir"]), *choices, device)
        uses = self._uses(values["step"])
        stages, build = chosen(values, "stages", STAGES), Path(values["build_dir"])
        self._stages_elsewhere = stages == "triton"
        if self._stages_elsewhere:
            self._call: Call = bls_call(self.family.stages, stage_prefix(self.family.name))
        else:
            check_choices(stages, *choices)
            run = TorchRun(device, threads(values))
            self._call = open_call(stages, self.family.stages, build, run, Path(values["model_dir"]))
        self._llm: Llm = MissingLm("this host step uses the language model without declaring it in `uses`")
        if "llm" in uses:
            self._llm = open_llm(self.family, self._call, lambda _lm: causal_llm(values))
        self._llm.count(on_token)
        self.warm_up()

    def _uses(self, step: str) -> tuple[str, ...]:
        """Return the stages the model calls, and "llm" if it needs the language model."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Run every network once; the server itself warms up those that are its own models."""
        raise NotImplementedError


class HostModel(FamilyModel):
    """A host step of the ensemble, or a service: answers lists of whole requests."""

    streams = False

    def _uses(self, step: str) -> tuple[str, ...]:
        self._host = find_host(self.family, step)
        return self._host.uses

    def warm_up(self) -> None:
        """Run each network of the host step once, and the language model if the step uses it."""
        for name in self._host.uses:
            if name == "llm":
                self._llm.warm_up()
            elif not self._stages_elsewhere:
                stage = self.family.stage(name)
                self._call(name, **stage.example(stage.sizes("opt")))

    def run(self, requests: list[Arrays], left: Sequence[Gone] = ()) -> list[Any]:
        """Return a result or an exception for each request; an invalid one does not affect the others.

        Args:
            left: for each request, tells whether its client has left; its work then ends with `Cancelled`.
        """
        left = each(left, len(requests))
        results: list[Any] = [
            Cancelled("cancelled") if gone() else refuse_batches(request) or self._problem(request)
            for request, gone in zip(requests, left, strict=True)
        ]
        good = [index for index, result in enumerate(results) if result is None]
        answers = self._answers([requests[index] for index in good], [left[index] for index in good])
        sounds = [tensor.name for tensor in self.family.response]
        for index, answer in zip(good, answers, strict=True):
            results[index] = checked_answer(answer, sounds)
        return results

    def _problem(self, request: Arrays) -> InvalidRequest | None:
        """Return the error of a request that no earlier step would send; entries check their own inputs in words."""
        return request_problem(self._host.inputs, request, {tensor.name for tensor in self.family.request})

    def _answers(self, requests: list[Arrays], left: Sequence[Gone]) -> list[Any]:
        """Return the host step's results; when a batch fails as a whole, try each of its requests alone."""
        if not requests:
            return []
        try:
            # Requests of one batch share each call of a stage, which is spared once all their clients have left.
            call = stoppable(self._call, lambda: all(gone() for gone in left))
            answers = list(self._host.run(call, self._llm, requests, left))
        except Cancelled as error:
            return [error] * len(requests)
        except Exception as error:
            if len(requests) > 1:
                pairs = zip(requests, left, strict=True)
                return [answer for request, gone in pairs for answer in self._answers([request], [gone])]
            if not isinstance(error, TritoneError):
                traceback.print_exc()
            return [error]
        return [Cancelled("cancelled") if gone() else answer for answer, gone in zip(answers, left, strict=True)]


class StreamModel(FamilyModel):
    """The streaming entry: answers each request with waveform chunks."""

    streams = True

    def _uses(self, step: str) -> tuple[str, ...]:
        return (*(stage.name for stage in self.family.stages), "llm")

    def warm_up(self) -> None:
        """Speak one word; if the stages are other models, which may not be loaded yet, only decode a few tokens."""
        if self._stages_elsewhere:
            self._llm.warm_up()
        else:
            text = {"target_text": np.array([[WARM_UP_TEXT.encode()]], object)}
            next(self.stream(text | self.family.trial), None)

    def stream(
        self, request: Arrays, cancelled: Callable[[], bool] = lambda: False, pieces: Iterable[str] | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the waveform chunks `[samples]` of one request; end soon after `cancelled()` returns True.

        Args:
            pieces: the text, if it arrives in several requests; it may be incomplete when speech begins.
        """
        problem = refuse_batches(request)
        if problem is not None:
            raise problem
        call = stoppable(self._call, cancelled)
        try:
            if pieces is None:
                chunks = self.family.synthesize(call, self._llm, request, cancelled)
                yield from checked_chunks(chunks, cancelled)
                return
            if self.family.synthesize_pieces is None:
                raise InvalidRequest(
                    "sequence_id",
                    f"was sent, but {self.family.name} needs the whole text at once, as it was trained; send the text, "
                    "or each sentence of it, in one request without it",
                )
            chunks = self.family.synthesize_pieces(call, self._llm, request, pieces, cancelled)
            yield from checked_chunks(chunks, cancelled)
        except Cancelled:
            return
        except TritoneError:
            raise
        except Exception:
            traceback.print_exc()
            raise


class StageModel:
    """A single stage on onnxruntime, with its tensors as declared.

    Args:
        values: as for a host step; `step` is "stage:" and the stage's name.
    """

    streams = False

    def __init__(self, values: Mapping[str, str]) -> None:
        self._name = values["step"].removeprefix(STAGE)
        stage = open_family(Path(values["model_dir"])).stage(self._name)
        self._call = onnx_call(Path(values["build_dir"]), [stage], threads=threads(values), eager=True)

    def run(self, requests: list[Arrays], left: Sequence[Gone] = ()) -> list[Any]:
        """Return a result or an exception for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Arrays) -> Any:
        try:
            return self._call(self._name, **request)
        except Exception as error:
            return error


def open_model(
    values: Mapping[str, str], on_token: Callable[[], None] = lambda: None
) -> HostModel | StreamModel | StageModel:
    """Return the model that the parameter `step` names: "stream", "stage:" and a stage's name, or a host step."""
    if values["step"] == STREAM:
        return StreamModel(values, on_token)
    return StageModel(values) if values["step"].startswith(STAGE) else HostModel(values, on_token)


def threads(values: Mapping[str, str]) -> int:
    """Return the number of threads of each network."""
    return int(values.get("threads") or os.environ.get("TRITONE_THREADS", "1"))


def chosen(values: Mapping[str, str], key: str, known: tuple[str, ...]) -> str:
    """Return the parameter's value, or the first known one by default; ConfigError lists the known values."""
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


def find_host(family: Family, name: str) -> Host:
    """Return the family's host step of that name; ConfigError lists those that exist."""
    hosts = (*family.hosts, *family.services)
    for host in hosts:
        if host.name == name:
            return host
    names = ", ".join([*(host.name for host in hosts), STREAM])
    raise ConfigError(f"{family.name} has no host step {name!r}; it has {names}")


def refuse_batches(request: Arrays) -> InvalidRequest | None:
    """Return the error for a request of several rows, or None: a request is one utterance, Triton forms the batches."""
    for name, array in request.items():
        if array.ndim == 0 or array.shape[0] != 1:
            rows = array.shape[0] if array.ndim else 0
            return InvalidRequest(
                name, f"has {rows} rows; send one utterance per request, the server batches them itself"
            )
    return None
