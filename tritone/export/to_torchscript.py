"""Export a stage as a TorchScript file in three phases: script, freeze, optimise for inference.

A shell around the module is frozen. Its `forward` takes the stage's inputs under their declared names and returns
float32 in every precision. So do the methods the module marks for export, which keep their names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritone.build.targets import PRECISIONS
from tritone.engines.torchscript import LABEL, Label, open_module
from tritone.errors import ArtifactError, ConfigError
from tritone.export.to_onnx import quiet, scratch, trace_sizes
from tritone.stage import Stage

TOOLS = ("torch",)
HELPERS = {
    "fp32": "def enter(self, x: Tensor) -> Tensor:\n    return x\n",
    "fp16": "def enter(self, x: Tensor) -> Tensor:\n    return x.half() if x.dtype == torch.float else x\n",
}
PLAIN = ("IntType", "FloatType", "BoolType", "StringType")
LEAVE = "def leave(self, x: Tensor) -> Tensor:\n    return x.float() if x.dtype == torch.half else x\n"


def export_stage(stage: Stage, path: Path, precision: str, module: Any = None) -> None:
    """Write the stage's torch module (`stage.build()` unless given) to `path`; replaces the file in one step.

    Args:
        precision: "fp32", or "fp16" for half weights and arithmetic except the parts the module keeps in float32
            (`tritone.nn.precision`).

    Raises:
        ArtifactError: the module cannot be compiled with its exported methods, or their arguments or results are of a
            type that cannot be exported.
    """
    import torch

    from tritone.nn.precision import full_precision_inputs, halved

    if precision not in PRECISIONS:
        raise ConfigError(f"unknown TorchScript precision {precision!r}; there are {', '.join(PRECISIONS)}")
    module = (stage.build() if module is None and stage.build else module).eval()
    methods = exported_methods(module)
    kept, declared = full_precision_inputs(module), [tensor.name for tensor in stage.inputs]
    if not set(kept) <= set(declared):
        raise ArtifactError(
            f"stage {stage.name}: full_precision_inputs names {', '.join(kept)}; the inputs are {', '.join(declared)}"
        )
    with quiet(), torch.no_grad():
        inner, reason = compiled(stage, halved(module) if precision == "fp16" else module, precision, methods)
        outer = shell(stage, inner, precision, methods, kept)
        ready = optimised(outer.eval(), list(methods))
    way = "trace" if reason else "script"
    label = Label(stage.name, precision, way, methods, torch.__version__, reason)
    with scratch(path) as part:
        with quiet():
            torch.jit.save(ready, str(part), _extra_files={LABEL: label.text()})
        open_module(stage, part, precision)


def optimised(outer: Any, methods: list[str]) -> Any:
    """Return the scripted module frozen and optimised, or only frozen if the optimised one cannot be saved.

    Optimising may give two-dimensional convolutions weights in oneDNN's own layout, which are not tensors.
    """
    import torch

    frozen = torch.jit.freeze(outer, preserved_attrs=methods)
    ready = torch.jit.optimize_for_inference(frozen, other_methods=methods)
    if "mkldnn" not in str(ready.graph):
        return ready
    return torch.jit.freeze(outer, preserved_attrs=methods)


def exported_methods(module: Any) -> tuple[str, ...]:
    """Return the names of the methods that the module's class marks with `torch.jit.export`."""
    from torch._jit_internal import FunctionModifiers, get_torchscript_modifier

    members = ((name, getattr(type(module), name, None)) for name in dir(type(module)))
    return tuple(n for n, f in members if callable(f) and get_torchscript_modifier(f) is FunctionModifiers.EXPORT)


def compiled(stage: Stage, module: Any, precision: str, methods: tuple[str, ...]) -> tuple[Any, str]:
    """Return the module as TorchScript, and the reason it had to be traced (empty when it was scripted).

    A trace has no methods other than forward, so a module that exports methods must be scripted.
    """
    import torch
    from torch.jit import _recursive

    from tritone.nn.precision import full_precision_inputs

    try:
        return torch.jit.script(module), ""
    except Exception as error:  # the compiler raises many types
        # Half-compiled classes would make the next attempt fail.
        _recursive.concrete_type_store = _recursive.ConcreteTypeStore()
        reason = " ".join(str(error).partition('\n  File "')[0].split())[:300] or type(error).__name__
        if methods:
            raise ArtifactError(
                f"stage {stage.name} exports {', '.join(methods)} but cannot be scripted: {reason}"
            ) from error
    inputs = [torch.from_numpy(array) for array in stage.example(trace_sizes(stage)).values()]
    if precision == "fp16":
        kept = full_precision_inputs(module)
        named = zip(stage.inputs, inputs, strict=True)
        inputs = [x.half() if x.is_floating_point() and tensor.name not in kept else x for tensor, x in named]
    return torch.jit.trace(module, tuple(inputs), check_trace=False), reason


def shell(stage: Stage, inner: Any, precision: str, methods: Iterable[str], kept: tuple[str, ...]) -> Any:
    """Return a scripted module around `inner` with the same methods and a float32 boundary.

    Args:
        kept: arguments that are passed on in float32.
    """
    import torch

    class Shell(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

    outer = torch.jit.script(Shell())
    outer.define(HELPERS[precision])
    outer.define(LEAVE)
    for name in methods:
        outer.define(method_source(name, inner, kept))
    outer.define(method_source("forward", inner, kept, [tensor.name for tensor in stage.inputs]))
    return outer


def method_source(name: str, inner: Any, kept: tuple[str, ...], names: list[str] | None = None) -> str:
    """Return the source of a method that casts its tensors, calls `inner`'s method and casts the results.

    Args:
        kept: arguments that are passed on as they are.
        names: names of the arguments (default: those of `inner`).
    """
    schema = getattr(inner, name).schema
    arguments = schema.arguments[1:]
    names = [argument.name for argument in arguments] if names is None else names
    if len(names) != len(arguments):
        raise ArtifactError(f"{name} takes {len(arguments)} arguments; the stage declares {', '.join(names) or 'none'}")
    parameters, given = ["self"], []
    for public, argument in zip(names, arguments, strict=True):
        parameters.append(f"{public}: {argument.type.annotation_str}")
        given.append(public if argument.name in kept else cast("enter", public, argument.type, name))
    call = f"self.inner.{name}({', '.join(given)})"
    result = schema.returns[0].type
    if result.kind() != "TupleType":
        lines = [f"r0 = {call}", f"return {cast('leave', 'r0', result, name)}"]
    else:
        types = result.elements()
        results = [f"r{index}" for index in range(len(types))]
        values = [cast("leave", value, kind, name) for value, kind in zip(results, types, strict=True)]
        lines = [f"{', '.join(results)}, = {call}", f"return {', '.join(values)},"]
    return "\n    ".join((f"def {name}({', '.join(parameters)}):", *lines)) + "\n"


def cast(helper: str, value: str, kind: Any, method: str) -> str:
    """Return the expression of a value after the shell's cast; plain values are passed on as they are."""
    if kind.kind() == "TensorType":
        return f"self.{helper}({value})"
    if kind.kind() == "OptionalType" and kind.getElementType().kind() == "TensorType":
        return f"(None if {value} is None else self.{helper}({value}))"
    if kind.kind() not in PLAIN:
        raise ArtifactError(
            f"{method} takes or returns {kind.annotation_str}; "
            "only tensors, optional tensors and numbers can be exported"
        )
    return value
