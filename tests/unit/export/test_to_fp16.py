"""Mixed fp16: every type explicit, kept nodes exact, constants out of range named, rounding simulated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.export_helpers import BATCH, FRAMES, toy_stage

from tritone.errors import ArtifactError
from tritone.export.fp16_rounding import rounded, rounded_call
from tritone.export.to_fp16 import convert_stage, mixed
from tritone.export.to_onnx import check_file, export_stage
from tritone.parity.compare import relative_error
from tritone.stage import Axis, Scaled, Stage, Tensor

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
N = Axis("n", 1, 8, 4000)
STAGE = Stage("toy", (Tensor("x", "float32", (N,)),), (Tensor("y", "float32", (N,)),), None)


def graph(nodes: list[Any], weights: dict[str, Any], outputs: tuple[str, ...] = ("y",)) -> Any:
    """Return a model from `x` [n] to `outputs` [n]; nodes are (name, operator, inputs, output) or finished."""
    made = [n if isinstance(n, onnx.NodeProto) else helper.make_node(n[1], n[2].split(), [n[3]], n[0]) for n in nodes]
    body = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n"])],
        [helper.make_tensor_value_info(name, FLOAT, ["n"]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: Any, x: np.ndarray) -> list[np.ndarray]:
    """Return the model's outputs; it must pass the strict checker first."""
    onnx.checker.check_model(model, full_check=True)
    return list(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x}))


def kinds(model: Any) -> dict[str, int]:
    """Return the inferred element type of every value."""
    known = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*known.input, *known.value_info, *known.output)}


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "smooth.onnx"
    export_stage(toy_stage(), path)
    return path


class Rows(torch.nn.Module):
    """The optimizer replaces the flattening of a known size by another node."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(x * 2, 1).tanh()


def test_nodes_are_named_after_modules_and_outputs_whatever_the_optimizer_did(tmp_path: Path) -> None:
    shapes = Tensor("x", "float32", (BATCH, 3, FRAMES)), Tensor("y", "float32", (BATCH, Scaled(3, FRAMES)))
    export_stage(Stage("rows", shapes[:1], shapes[1:], lambda: Rows()), tmp_path / "rows.onnx")
    names = [node.name for node in onnx.load(str(tmp_path / "rows.onnx")).graph.node]
    assert names[0] == "/Mul" and "/Flatten" in names and names[-1] == "/Tanh"


def test_a_stage_keeps_its_boundary_and_stays_within_tolerance(fp32: Path, tmp_path: Path) -> None:
    stage, path = toy_stage(), tmp_path / "smooth.fp16.onnx"
    convert_stage(stage, fp32, path)
    session = onnxruntime.InferenceSession(path)
    assert [v.type for v in session.get_inputs()] == ["tensor(float)", "tensor(int32)", "tensor(float)"]
    assert {v.type for v in session.get_outputs()} == {"tensor(float)"}
    call = rounded_call({"smooth": path}, [stage])
    inputs = stage.example({"batch": 3, "frames": 40, "past": 0})
    wanted = onnxruntime.InferenceSession(fp32).run(None, inputs)
    found = call("smooth", **inputs)
    errors = [relative_error(w, found[t.name]) for w, t in zip(wanted, stage.outputs, strict=True)]
    assert 0 < max(errors) < 5e-3


def test_casts_stand_only_where_the_type_changes_and_once_per_value(fp32: Path) -> None:
    model = mixed(onnx.load(str(fp32)), (), "toy")
    types = kinds(model) | {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    targets = Counter((node.input[0], next(a.i for a in node.attribute if a.name == "to")) for node in casts)
    assert casts and set(targets.values()) == {1}
    assert all(types[value] != target for value, target in targets)
    assert {t.data_type for t in model.graph.initializer} & {FLOAT} == set()
    names = [node.name for node in model.graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_kept_nodes_keep_type_and_weights() -> None:
    weight = np.float32(1) + np.float32(2**-20)
    model = graph(
        [("/a/Mul", "Mul", "x w", "a"), ("/b/Mul", "Mul", "a w", "b"), ("/c/Mul", "Mul", "b w", "y")], {"w": [weight]}
    )
    result = mixed(model, ("/b/*",), "toy")
    types = kinds(result)
    assert (types["a"], types["b"], types["y"]) == (HALF, FLOAT, FLOAT)
    read = {node.name: list(node.input) for node in result.graph.node}
    weights = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    assert weights[read["/b/Mul"][1]] == weight
    assert weights[read["/a/Mul"][1]].dtype == np.float16 == weights[read["/c/Mul"][1]].dtype
    run(result, np.ones(3, np.float32))


@pytest.mark.parametrize("value", [1e5, -1e5, 1e-9])
def test_a_constant_without_an_fp16_value_is_refused_by_its_nodes_name(value: float, tmp_path: Path) -> None:
    source = tmp_path / "toy.onnx"
    onnx.save(graph([("/middle/Mul", "Mul", "x k", "y")], {"k": np.float32([value])}), str(source))
    message = rf"stage toy: node /middle/Mul \(Mul\) has the constant {abs(value):.3g}; fp16 holds .*keep_fp32"
    with pytest.raises(ArtifactError, match=message.replace("+", r"\+")):
        convert_stage(STAGE, source, tmp_path / "toy.fp16.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["toy.onnx"]
    kept = Stage(STAGE.name, STAGE.inputs, STAGE.outputs, None, keep_fp32=("/middle/*",))
    convert_stage(kept, source, tmp_path / "toy.fp16.onnx")
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    assert np.array_equal(run(onnx.load(str(tmp_path / "toy.fp16.onnx")), x)[0], x * np.float32(value))


def test_an_infinite_mask_value_has_an_fp16_value() -> None:
    model = graph(
        [("/Less", "Less", "x k", "m"), ("/Where", "Where", "m x i", "s"), ("/Softmax", "Softmax", "s", "y")],
        {"k": np.float32(0.5), "i": np.float32(-np.inf)},
    )
    (y,) = run(rounded(mixed(model, (), "toy")), np.float32([0, 0, 1]))
    assert np.allclose(y, [0.5, 0.5, 0])


def test_a_pattern_that_matches_nothing_is_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"stage smooth keeps /absent/\* in fp32, which matches none of its \d+ "):
        convert_stage(toy_stage(keep_fp32=("/absent/*",)), fp32, tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match=r"missing.onnx cannot be read \(.*run: tritone build"):
        convert_stage(toy_stage(), tmp_path / "missing.onnx", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_check_of_the_result_bites(tmp_path: Path) -> None:
    model = mixed(graph([("/Add", "Add", "x w", "y")], {"w": np.float32([1])}), (), "toy")
    next(n for n in model.graph.node if n.name == "/Add").input[0] = "x"
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(ArtifactError, match=r"b.onnx is not a valid ONNX file: .*Add"):
        check_file(STAGE, tmp_path / "a.onnx", Path("b.onnx"))


def test_whole_numbers_are_cast_once_to_the_type_of_each_reader() -> None:
    """fp16 cannot hold 4001: a kept node must read it exactly although another reads it as fp16."""
    nodes = [
        ("/Shape", "Shape", "x", "s"),
        helper.make_node("Cast", ["s"], ["f"], "/Cast", to=FLOAT),
        ("/low/Mul", "Mul", "x f", "y"),
        ("/kept/Mul", "Mul", "x f", "z"),
        ("/Unsqueeze", "Unsqueeze", "f axes", "u"),
        ("/Reshape", "Reshape", "u flat", "m"),
        ("/kept/Mul_1", "Mul", "x m", "w"),
        ("/low/Mul_1", "Mul", "x m", "v"),
    ]
    weights = {"axes": np.int64([0]), "flat": np.int64([-1])}
    result = rounded(mixed(graph(nodes, weights, ("y", "z", "w", "v")), ("/kept/*",), "toy"))
    y, z, w, v = run(result, np.ones(4001, np.float32))
    assert set(z) == set(w) == {4001.0} and set(y) == set(v) == {4000.0}


def test_truth_values_are_moved_in_fp16() -> None:
    nodes = [
        ("/Less", "Less", "x k", "l"),
        helper.make_node("Cast", ["l"], ["f"], "/Cast", to=FLOAT),
        ("/Reshape", "Reshape", "f flat", "m"),
        ("/Mul", "Mul", "x m", "y"),
    ]
    result = mixed(graph(nodes, {"flat": np.int64([-1]), "k": np.float32(0)}), (), "toy")
    assert kinds(result)["m"] == HALF
    assert np.array_equal(run(result, np.float32([-2, 3]))[0], [-2, 0])


def test_operators_with_fixed_float_inputs_branches_and_fills() -> None:
    one = helper.make_tensor_value_info("t", FLOAT, None)
    then = helper.make_graph([helper.make_node("Add", ["a", "w"], ["t"], "/then/Add")], "then", [], [one])
    other = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["e"], "/else/Id")], "else", [],
        [helper.make_tensor_value_info("e", FLOAT, None)],
    )  # fmt: skip
    nodes = [
        ("/Mul", "Mul", "x w", "a"),
        helper.make_node("If", ["yes"], ["b"], "/If", then_branch=then, else_branch=other),
        ("/Shape", "Shape", "b", "s"),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"], "/Fill"),
        ("/Add", "Add", "b zeros", "c"),
        ("/Unsqueeze", "Unsqueeze", "c axes", "d"),
        helper.make_node("Resize", ["d", "", "scales"], ["r"], "/Resize", mode="nearest"),
        ("/Flat", "Reshape", "r flat", "y"),
        ("/Again", "Mul", "y w", "z"),
    ]
    weights = {
        "w": np.float32([3]), "yes": np.bool_(True), "axes": np.int64([0, 1]),
        "scales": np.float32([1, 1, 1]), "flat": np.int64([-1]),
    }  # fmt: skip
    result = mixed(graph(nodes, weights, ("y", "z")), (), "toy")
    types = kinds(result)
    assert (types["a"], types["b"], types["zeros"], types["c"], types["y"]) == (HALF, FLOAT, HALF, HALF, FLOAT)
    x = np.float32([1, 2])
    y, z = run(result, x)
    assert np.array_equal(y, 3 * x + 3) and np.array_equal(z, 3 * y)


def test_functions_constants_and_nodes_without_names() -> None:
    twice = helper.make_function(
        "own", "Twice", ["v"], ["w"], [helper.make_node("Add", ["v", "v"], ["w"])], [helper.make_opsetid("", 18)]
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=0.5),
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Twice", ["a"], ["y"], domain="own"),
    ]
    model = graph([*nodes[:2], ("/Id", "Identity", "a", "y")], {})
    del model.graph.node[2:]
    model.graph.node.append(nodes[2])
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("own", 1))
    result = mixed(model, (), "toy")
    assert not result.functions and all(node.name for node in result.graph.node)
    assert kinds(result)["a"] == HALF
    assert np.array_equal(run(result, np.float32([3]))[0], [3])


def test_rounding_makes_overflow_and_underflow_real() -> None:
    """A CPU computes fp16 chains in fp32; the rounded graph must not."""
    model = mixed(
        graph(
            [("/Up", "Mul", "x k", "a"), ("/Down", "Mul", "a i", "y"), ("/Low", "Mul", "x e", "b"),
             ("/High", "Mul", "b k", "z")],
            {"k": np.float32([6e4]), "i": np.float32([1e-4]), "e": np.float32([1e-4])},
            ("y", "z"),
        ),
        (),
        "toy",
    )  # fmt: skip
    y, z = run(rounded(model), np.float32([1, 2, 1e-4]))
    assert np.isfinite(y[0]) and np.isinf(y[1]) and z[2] == 0 and z[0] > 5


def test_rounded_values_are_fp16_numbers(fp32: Path) -> None:
    model = rounded(mixed(onnx.load(str(fp32)), (), "toy"))
    inputs = toy_stage().example({"batch": 2, "frames": 9, "past": 3})
    outputs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    assert all(np.array_equal(y, y.astype(np.float16).astype(np.float32)) for y in outputs)


def test_a_rounded_call_checks_what_it_is_given(fp32: Path, tmp_path: Path) -> None:
    stage = toy_stage(inputs=toy_stage().inputs[:2])
    path = tmp_path / "smooth.fp16.onnx"
    convert_stage(toy_stage(), fp32, path)
    with pytest.raises(ArtifactError, match=r"smooth.fp16.onnx has the inputs x, x_len, state, stage smooth declares"):
        rounded_call({"smooth": path}, [stage])("smooth", **stage.example({"batch": 1, "frames": 4}))
