"""Every host step of every family, called alone, refuses what the step before it would not send."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import moss_helpers
from support.bert_vits2 import folder as bert

from tritone.catalog import open_family
from tritone.errors import InvalidRequest
from tritone.load import load_model
from tritone.server.checks import checked_answer, request_problem
from tritone.stage import Arrays, Axis, Family, Host, Scaled, Tensor, size

MORE: tuple[dict[str, Any], ...] = ({}, {}, {}, {"max_seconds": 2.0}, {})
TEXTS = ("Hi.", "Hi.", "Hi.", "[S1]Hi.", "Hello there.")


@pytest.fixture(scope="module")
def folders(tiny_v1: Path, tiny_v2: Path, tiny_v3: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    moss = moss_helpers.write_checkpoint(tmp_path_factory.mktemp("moss"))
    return [tiny_v1, tiny_v2, tiny_v3, moss, bert.write_tiny(tmp_path_factory.mktemp("bert"))]


@pytest.fixture(scope="module")
def families(folders: list[Path]) -> list[Family]:
    return [open_family(folder) for folder in folders]


def inner(family: Family) -> list[tuple[Host, list[Tensor]]]:
    """Return the steps after the entry with the inputs that are no client's."""
    clients = {tensor.name for tensor in family.request}
    return [(host, [t for t in host.inputs if t.name not in clients]) for host in family.hosts[1:]]


def example(host: Host) -> Arrays:
    """Return inputs of a step at the usual sizes, all zeros or the least number that is allowed."""
    request = {}
    for tensor in host.inputs:
        sizes = {a.name: max(1, a.lo, min(a.opt, 8)) for d in tensor.shape if (a := axis(d)) is not None}
        shape = [size(dim, sizes) for dim in tensor.shape]
        request[tensor.name] = np.full(shape, (tensor.allowed or (0, 0))[0], tensor.dtype)
        if isinstance(tensor.length_of, Axis):
            whole = max(1, tensor.length_of.lo, min(tensor.length_of.opt, 8))
            request[tensor.name].flat[0] = whole
    return request


def axis(dim: int | Axis | Scaled) -> Axis | None:
    return None if isinstance(dim, int) else dim.axis if isinstance(dim, Scaled) else dim


def test_every_step_takes_its_example_and_refuses_each_kind_of_wrong(families: list[Family]) -> None:
    tried = {"NaN": 0, "range": 0, "size": 0, "missing": 0, "type": 0, "parts": 0}
    for family in families:
        for host, tensors in inner(family):
            good = example(host)
            assert request_problem(host.inputs, good) is None, (family.name, host.name)

            def refused(
                name: str,
                array: np.ndarray | None,
                kind: str,
                host: Host = host,
                good: Arrays = good,
                model: str = family.name,
            ) -> None:
                changed = {key: value for key, value in (good | {name: array}).items() if value is not None}
                problem = request_problem(host.inputs, changed)
                assert problem is not None and problem.field == name, (model, host.name, name, kind)
                tried[kind] += 1

            for tensor in tensors:
                array = good[tensor.name]
                refused(tensor.name, None, "missing")
                refused(tensor.name, array.astype(np.int16), "type")
                if array.dtype.kind == "f" and array.size:
                    refused(tensor.name, np.full_like(array, np.nan), "NaN")
                if tensor.allowed is not None:
                    refused(tensor.name, array - 1 if array.dtype.kind == "i" else array - 9, "range")
                last = axis(tensor.shape[-1])
                if last is not None:
                    most = size(tensor.shape[-1], {last.name: last.hi})
                    refused(tensor.name, np.zeros((*array.shape[:-1], most + 1), array.dtype), "size")
                if isinstance(tensor.length_of, Axis):
                    refused(tensor.name, array + 1, "parts")
    assert min(tried.values()) >= 3 and sum(tried.values()) > 150, tried


def test_every_whole_number_between_steps_has_a_range(families: list[Family]) -> None:
    loose = [
        f"{family.name}_{host.name} {tensor.name}"
        for family in families
        for host, tensors in inner(family)
        for tensor in tensors
        if tensor.dtype.startswith("int") and tensor.allowed is None and tensor.length_of is None
    ]
    assert loose == []


def test_a_prompt_longer_than_all_the_frames_is_named(families: list[Family]) -> None:
    host = next(host for host in families[1].hosts if host.name == "flow_decoder")
    bands = families[1].stage("vocoder").inputs[0].shape[1]
    assert isinstance(bands, int)
    request = {
        "mu": np.zeros((1, bands, 10), np.float32),
        "mu_len": np.array([[10]]),
        "spks": np.zeros((1, bands), np.float32),
        "prompt_feat": np.zeros((1, bands, 12), np.float32),
        "speed_used": np.ones((1, 1), np.float32),
    }
    assert request_problem(host.inputs, request) is None
    (error,) = host.run(None, None, [request])  # type: ignore[arg-type]
    assert str(error) == "INVALID_ARGUMENT: prompt_feat: leaves -2 of the 10 frames of mu to speak"


def test_a_segment_longer_than_a_stage_takes_is_named(families: list[Family]) -> None:
    hosts = {host.name: host for host in families[1].hosts}
    bands = families[1].stage("vocoder").inputs[0].shape[1]
    assert isinstance(bands, int)
    request = {
        "mu": np.zeros((1, bands, 50_000), np.float32),
        "mu_len": np.array([[50_000]]),
        "spks": np.zeros((1, bands), np.float32),
        "prompt_feat": np.zeros((1, bands, 0), np.float32),
        "speed_used": np.ones((1, 1), np.float32),
    }
    assert request_problem(hosts["flow_decoder"].inputs, request) is None
    (error,) = hosts["flow_decoder"].run(None, None, [request])  # type: ignore[arg-type]
    assert str(error).startswith("INVALID_ARGUMENT: mu_len: has a segment of 50000 frames; the limit is ")
    mel = {
        "mel": np.zeros((1, bands, 20_000), np.float32),
        "mel_len": np.array([[20_000]]),
        "seed_used": np.array([[1]]),
    }
    assert request_problem(hosts["vocoder"].inputs, mel) is None
    (error,) = hosts["vocoder"].run(None, None, [mel])  # type: ignore[arg-type]
    assert str(error).startswith("INVALID_ARGUMENT: mel_len: has a segment of 20000 frames; the limit is ")


def test_dialogue_ids_that_a_channel_does_not_have_are_named(families: list[Family]) -> None:
    host = families[3].hosts[1]
    request = example(host)
    request["prompt_rows"][0, 0, 1] = 1_000_000
    (error,) = host.run(None, None, [request])  # type: ignore[arg-type]
    assert str(error).startswith("INVALID_ARGUMENT: prompt_rows: has speech ids beyond the ")
    request = example(host)  # its temperatures are 0
    (error,) = host.run(None, None, [request])  # type: ignore[arg-type]
    assert str(error).startswith("INVALID_ARGUMENT: sampling_used: ") and "temperature > 0" in str(error)


@pytest.mark.parametrize("which", range(5))
def test_what_a_step_sends_the_next_one_takes(families: list[Family], folders: list[Path], which: int) -> None:
    model, seen = load_model(folders[which]), list[str]()

    def watched(host: Host) -> Host:
        def run(call: Any, llm: Any, requests: list[Arrays]) -> Any:
            for request in requests:
                assert request_problem(host.inputs, request, {t.name for t in model.family.request}) is None
            answers = host.run(call, llm, requests)
            for answer in answers:
                assert isinstance(answer, InvalidRequest) or checked_answer(answer) is answer
            seen.append(host.name)
            return answers

        return dataclasses.replace(host, run=run)

    hosts = tuple(map(watched, model.family.hosts))
    watching = dataclasses.replace(model, family=dataclasses.replace(model.family, hosts=hosts))
    waveform = watching.synthesize(TEXTS[which], **MORE[which])
    assert len(waveform) and seen == [host.name for host in hosts]
