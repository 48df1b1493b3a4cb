"""TorchScript files: the same numbers in both precisions, streaming methods that survive, refusals with reasons."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support import v3_helpers
from support.export_helpers import FRAMES, Smooth, toy_stage, worse
from support.flow_helpers import random_flow
from support.golden_weights import tiny_state
from torch import Tensor, nn

from tritone.build.layout import torchscript_key
from tritone.engines.torch import torch_call
from tritone.engines.torchscript import LABEL, Label, open_module, torchscript_call
from tritone.errors import ArtifactError, ConfigError, InvalidRequest
from tritone.export.to_onnx import quiet
from tritone.export.to_torchscript import export_stage
from tritone.families.cosyvoice.config.common import HiftConfig
from tritone.families.cosyvoice.flow.v2.stages import flow_stages
from tritone.families.cosyvoice.vocoder.hift import Hift
from tritone.families.cosyvoice.vocoder.stages import vocoder_stages
from tritone.nn.precision import full_precision_inputs, halved
from tritone.parity.compare import compare_stage, relative_error
from tritone.stage import Stage
from tritone.stage import Tensor as Declared

TINY = HiftConfig(base_channels=32, f0_channels=32)
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}


class Unscriptable(Smooth):
    """Calls Smooth through its base class, and a generator; only a trace can follow both."""

    def forward(self, x: Tensor, x_len: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, after = super().forward(x, x_len, state)
        return sum(part for part in (y, y)) / 2, after


class UnscriptableBaked(Unscriptable):
    """An unscriptable module with a length that a trace turns into a number."""

    def forward(self, x: Tensor, x_len: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, after = super().forward(x, x_len, state)
        return y[:, :, : 2 * int(torch.tensor(x.shape[2]))], after


class Running(nn.Module):
    """Causal two-tap filter with a second method for streams, whose state is an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(3, 3, 2)
        torch.manual_seed(0)
        nn.init.normal_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_chunk(x, None, 1.0)[0]

    @torch.jit.export
    def forward_chunk(self, x: Tensor, past: Tensor | None, gain: float) -> tuple[Tensor, Tensor]:
        both = nn.functional.pad(x, (1, 0)) if past is None else torch.cat((past, x), dim=2)
        return self.mix(both) * gain, both[:, :, -1:]


class Kept(NamedTuple):
    past: Tensor


class RunningKept(Running):
    @torch.jit.export
    def forward_kept(self, kept: Kept) -> Tensor:
        return self.mix(kept.past)


class RunningUnscriptable(Running):
    def forward(self, x: Tensor) -> Tensor:
        return sum(part for part in (super().forward(x),))


def running_stage(module: nn.Module) -> Stage:
    tensors = (Declared("x", "float32", (1, 3, FRAMES)),), (Declared("y", "float32", (1, 3, FRAMES)),)
    return Stage("running", *tensors, module.eval)


def build(stage: Stage, folder: Path, precision: str = "fp32") -> Path:
    path = folder / torchscript_key(stage, precision)
    export_stage(stage, path, precision)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder with the toy stage in both precisions."""
    out = tmp_path_factory.mktemp("build")
    for precision in TOLERANCE:
        build(toy_stage(), out, precision)
    return out


@functools.cache
def tiny_stages() -> tuple[Stage, ...]:
    """Return the six stages of a random flow and of the tiny vocoder."""
    config, flow = random_flow(left_chunks=1, chunk=4)

    def hift() -> Hift:
        network = Hift(TINY)
        network.load_state_dict(tiny_state("hift"))
        return network.eval()

    return (*flow_stages(config, lambda: flow), *vocoder_stages(TINY, hift))


@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_file_computes_the_module_at_every_size(folder: Path, precision: str) -> None:
    stage = replace(toy_stage(), tolerance=TOLERANCE[precision])
    engine = torchscript_call(folder, [stage], precision)
    rows = list(compare_stage(stage, torch_call([stage]), engine, "torchscript", seed=1))
    assert len(rows) == 3 and [row.problem for row in rows] == ["", "", ""]
    if precision == "fp16":  # that it really rounds
        assert max(row.error for row in rows) > 1e-5
    files = sorted(path.name for path in (folder / "torchscript").iterdir())
    assert files == ["smooth.fp16.zip", "smooth.fp32.zip"]


def test_wrong_weights_are_seen(folder: Path) -> None:
    stage = toy_stage(worse())
    rows = list(compare_stage(stage, torch_call([stage]), torchscript_call(folder, [stage]), "torchscript", seed=1))
    assert [row.passed for row in rows[1:]] == [False, False]  # of the smallest, one frame, the output is zero


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("name", [stage.name for stage in tiny_stages()])
def test_every_network_is_scripted_and_right(name: str, version: str, precision: str, tmp_path: Path) -> None:
    stages = tiny_stages() if version == "v2" else v3_helpers.tiny_stages().values()
    stage = next(stage for stage in stages if stage.name == name)
    _, label = open_module(stage, build(stage, tmp_path, precision), precision)
    assert (label.way, label.reason, label.torch) == ("script", "", torch.__version__)
    reference, engine = torch_call([stage]), torchscript_call(tmp_path, [stage], precision)
    ragged = {axis.name: 3 if index == 0 else max(12, axis.lo) for index, axis in enumerate(stage.axes)}
    for seed, sizes in enumerate((stage.sizes("lo"), ragged)):
        inputs = stage.example(sizes, seed)
        wanted, found = reference(name, **inputs), engine(name, **inputs)
        for tensor in stage.outputs:
            assert str(found[tensor.name].dtype) == tensor.dtype
            assert relative_error(wanted[tensor.name], found[tensor.name]) <= TOLERANCE[precision]


def test_half_weights_halve_the_file(tmp_path: Path) -> None:
    stage = next(stage for stage in tiny_stages() if stage.name == "vocoder")
    whole, half = (build(stage, tmp_path, precision).stat().st_size for precision in TOLERANCE)
    assert half < 0.75 * whole


def test_a_long_utterance_keeps_its_flow_time_in_half() -> None:
    """Flow time times 1000 is an angle: rounded to half before that, it would be off by half a radian."""
    stage = next(stage for stage in tiny_stages() if stage.name == "flow_estimator")
    embedding = stage.build().estimator.time_mlp
    t = torch.linspace(0.9, 1, 50)
    with torch.inference_mode():
        wanted, twin = embedding(t), halved(embedding)
        kept, spoilt = twin(t), twin(t.half())
    assert twin.linear_1.weight.dtype == torch.float16 == kept.dtype
    assert (kept - wanted).abs().max() < 3e-3 * wanted.abs().max() < 0.1 * (spoilt - wanted).abs().max()


class Turn(nn.Module):
    """The sine of a thousand times its input, which half precision cannot hold."""

    full_precision_inputs = ("x",)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(1000 * x)


class Turned(Turn):
    full_precision_inputs = ()


class Misnamed(Turn):
    full_precision_inputs = ("t",)


def test_inputs_stay_float32_where_the_module_says_so(tmp_path: Path) -> None:
    errors = {}
    for kind in (Turn, Turned):
        stage = running_stage(kind())
        build(stage, tmp_path, "fp16")
        inputs = stage.example(stage.sizes("hi"))
        wanted, found = torch_call([stage])("running", **inputs), torchscript_call(tmp_path, [stage], "fp16")
        errors[kind] = relative_error(wanted["y"], found("running", **inputs)["y"])
    assert errors[Turn] < 1e-4 and errors[Turned] > 0.1
    with pytest.raises(ArtifactError, match=r"stage running: full_precision_inputs names t; the inputs are x"):
        build(running_stage(Misnamed()), tmp_path, "fp16")


def test_the_networks_keep_time_and_phase_in_float32() -> None:
    kept = {stage.name: full_precision_inputs(stage.build()) for stage in tiny_stages()}
    assert kept == {
        "flow_encoder": ("embedding",),
        "flow_encoder_chunk": ("embedding",),
        "flow_estimator": ("t",),
        "flow_estimator_chunk": ("t",),
        "f0_predictor": ("mel",),
        "vocoder": ("harmonics",),
    }


def test_halving_copies_and_spares_what_needs_float32() -> None:
    module = next(stage for stage in tiny_stages() if stage.name == "vocoder").build()
    twin = halved(module)
    assert {str(p.dtype) for p in module.parameters()} == {"torch.float32"}
    wide = {
        name.split(".")[1] for name, tensor in twin.state_dict(keep_vars=True).items() if tensor.dtype == torch.float32
    }
    assert wide == {"m_source", "f0_predictor"}
    assert twin.hift.inverse_stft.basis.dtype == torch.float32 and twin.hift.conv_pre.weight.dtype == torch.float16


@pytest.mark.parametrize("precision", TOLERANCE)
def test_streaming_methods_survive_freezing(precision: str, tmp_path: Path) -> None:
    source = Running().eval()
    stage = running_stage(source)
    module, label = open_module(stage, build(stage, tmp_path, precision), precision)
    assert label.methods == ("forward_chunk",)
    x = torch.randn(1, 3, 30, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole, past, parts = source(x), None, []
        for chunk in x.split(7, dim=2):
            y, past = module.forward_chunk(chunk, past, 1.0)
            assert y.dtype == past.dtype == torch.float32
            parts.append(y)
        doubled, _ = module.forward_chunk(x, None, gain=2.0)
        streamed = torch.cat(parts, dim=2)
        for found, wanted in ((streamed, whole), (module(x), whole), (doubled, 2 * whole)):
            assert relative_error(wanted.numpy(), found.numpy()) <= TOLERANCE[precision]


def test_what_cannot_be_scripted_is_traced_and_says_so(tmp_path: Path) -> None:
    stage = toy_stage(Unscriptable())
    _, label = open_module(stage, build(stage, tmp_path), "fp32")
    assert label.way == "trace" and "'Tensor' object has no attribute or method 'forward'" in label.reason
    _, again = open_module(stage, build(stage, tmp_path, "fp16"), "fp16")
    assert again.reason == label.reason
    rows = list(compare_stage(stage, torch_call([stage]), torchscript_call(tmp_path, [stage]), "torchscript", seed=1))
    assert [row.problem for row in rows] == ["", "", ""]


def test_a_size_baked_in_by_a_trace_is_seen(tmp_path: Path) -> None:
    stage = toy_stage(UnscriptableBaked())
    build(stage, tmp_path)
    rows = list(compare_stage(stage, torch_call([stage]), torchscript_call(tmp_path, [stage]), "torchscript", seed=1))
    assert not all(row.passed for row in rows)


def test_methods_that_would_be_lost_stop_the_export(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"stage running exports forward_chunk but cannot be scripted: 'Tensor' object"
    ):
        build(running_stage(RunningUnscriptable()), tmp_path)
    with pytest.raises(
        ArtifactError, match=r"forward_kept takes or returns .*Kept; only tensors, optional tensors and"
    ):
        build(running_stage(RunningKept()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TorchScript precision 'int8'; there are fp32, fp16"):
        export_stage(toy_stage(), tmp_path / "x.zip", "int8")


def test_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"forward takes 3 arguments; the stage declares x, x_len"):
        export_stage(toy_stage(inputs=toy_stage().inputs[:2]), tmp_path / "x.zip", "fp32")


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    path = build(toy_stage(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError):
        export_stage(toy_stage(inputs=toy_stage().inputs[:2]), path, "fp32")
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_missing_damaged_and_foreign_files_are_refused(folder: Path, tmp_path: Path) -> None:
    stage, path = toy_stage(), tmp_path / torchscript_key(toy_stage())
    inputs = stage.example(stage.sizes("opt"))
    run = r"run: tritone build --formats torchscript"

    def refused(message: str, which: Stage = stage, precision: str = "fp32", out: Path = tmp_path) -> None:
        with pytest.raises(ArtifactError, match=message):
            torchscript_call(out, [which], precision)(which.name, **inputs)

    refused(rf"torchscript/smooth.fp32.zip does not exist; {run}")
    path.parent.mkdir()
    path.write_bytes((folder / torchscript_key(stage)).read_bytes()[:2000])
    refused(rf"torchscript/smooth.fp32.zip cannot be loaded \(.*\); {run}")
    with quiet():
        torch.jit.save(torch.jit.script(Smooth()), str(path))
    refused(rf"cannot be loaded \(it was not written by Tritone: it has no {LABEL}\); {run}")
    path.write_bytes((folder / torchscript_key(stage, "fp16")).read_bytes())
    refused(rf"fp32.zip is stage smooth in fp16, not stage smooth in fp32; {run}")
    other = replace(stage, name="rough")
    (tmp_path / torchscript_key(other)).write_bytes((folder / torchscript_key(stage)).read_bytes())
    refused(rf"rough.fp32.zip is stage smooth in fp32, not stage rough in fp32; {run}", other)
    renamed = replace(stage, inputs=(replace(stage.inputs[0], name="wave"), *stage.inputs[1:]))
    inputs["wave"] = inputs["x"]
    del inputs["x"]
    refused(rf"takes x, x_len, state, stage smooth in fp32 declares wave, x_len, state; {run}", renamed, out=folder)


def test_another_number_of_outputs_is_refused(folder: Path) -> None:
    stage = replace(toy_stage(), outputs=toy_stage().outputs[:1])
    with pytest.raises(ArtifactError, match=r"TorchScript module of stage smooth gives 2 outputs, declared are y; "):
        torchscript_call(folder, [stage])("smooth", **stage.example(stage.sizes("opt")))


def test_bad_inputs_are_named_before_the_module_sees_them(folder: Path) -> None:
    call = torchscript_call(folder, [toy_stage()])
    inputs = toy_stage().example({"batch": 2, "frames": 5, "past": 0})
    with pytest.raises(InvalidRequest, match=r"x: stage smooth takes float32 \[batch, 3, frames\], got float64"):
        call("smooth", **{**inputs, "x": inputs["x"].astype(np.float64)})
    with pytest.raises(KeyError, match=r"there is no stage 'rough'; there are smooth"):
        call("rough", **inputs)


def test_threads_are_those_of_the_call_alone(folder: Path) -> None:
    before = torch.get_num_threads()
    stage = toy_stage()
    torchscript_call(folder, [stage], threads=before + 1)("smooth", **stage.example(stage.sizes("opt")))
    assert torch.get_num_threads() == before


def test_the_label_is_read_as_written() -> None:
    from tritone.engines.torchscript import read_label

    label = Label("running", "fp16", "script", ("forward_chunk",), "2.13.0")
    assert read_label(label.text()) == label
    with pytest.raises(ValueError, match="was not written by Tritone"):
        read_label('{"stage": "running"}')
