"""HyperPyYAML, read and written as data: tags name classes, but nothing is imported, constructed or called.

`!new:` and `!name:` mappings become plain dictionaries that keep the dotted name under "!new" or "!name"; `!apply:`
becomes None. `!ref` expressions (a reference, or arithmetic over references and numbers) are evaluated by a walk over
their syntax tree that allows the operators + - * / // alone.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml


class HyperYamlError(ValueError):
    """The text is not YAML, or has a tag or expression that is not data."""


@dataclass(frozen=True)
class Reference:
    """An unevaluated `!ref` expression."""

    expression: str


@dataclass(frozen=True)
class Tagged:
    """A mapping that is written under a tag such as `!new:package.Class`."""

    tag: str
    entries: Mapping[str, Any]


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Node = yaml.Node
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_NAME = re.compile(r"<([A-Za-z_][\w.\[\]]*)>")


def parse(text: str) -> dict[str, Any]:
    """Return the document's top-level mapping with all references resolved."""
    try:
        document = yaml.load(text, Loader=_Loader)  # a SafeLoader: unknown tags are errors
    except yaml.YAMLError as error:
        raise HyperYamlError(" ".join(str(error).split())) from error
    if not isinstance(document, dict):
        raise HyperYamlError(f"the file is a {type(document).__name__}, not a mapping")
    return {key: _resolve(value, document, ()) for key, value in document.items()}


def render(document: Mapping[str, Any]) -> str:
    """Return the YAML text of a mapping; its `Tagged` values are written under their tags."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _object(kind: str) -> Callable[[Any, str, _Node], dict[str, Any]]:
    def construct(loader: Any, name: str, node: _Node) -> dict[str, Any]:
        if isinstance(node, yaml.MappingNode):
            return {kind: name, **loader.construct_mapping(node, deep=True)}
        if isinstance(node, yaml.SequenceNode):
            return {kind: name, "arguments": loader.construct_sequence(node, deep=True)}
        return {kind: name}

    return construct


def _reference(loader: Any, node: _Node) -> Reference:
    return Reference(str(loader.construct_scalar(node)))


def _sequence(loader: Any, node: _Node) -> list[Any]:
    return list(loader.construct_sequence(node, deep=True))


def _resolve(value: Any, document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the value with all references in it resolved; `path` holds the references being followed."""
    if isinstance(value, Reference):
        if value.expression in path:
            raise HyperYamlError(f"!ref {value.expression} refers to itself")
        return _evaluate(value.expression, document, (*path, value.expression))
    if isinstance(value, dict):
        return {key: _resolve(item, document, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, document, path) for item in value]
    return value


def _evaluate(expression: str, document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    names: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        names.append(match.group(1))
        return f"_{len(names) - 1}"

    source = _NAME.sub(placeholder, expression).strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise HyperYamlError(f"cannot read !ref {expression}") from error

    def walk(node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id[1:].isdigit() and node.id[0] == "_":
            return _resolve(_lookup(names[int(node.id[1:])], document), document, path)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -_number(walk(node.operand), expression)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = _number(walk(node.left), expression), _number(walk(node.right), expression)
            return _OPERATORS[type(node.op)](left, right)
        raise HyperYamlError(f"!ref {expression} is not supported; it may have references, numbers and + - * / // only")

    return walk(tree)


def _lookup(name: str, document: Mapping[str, Any]) -> Any:
    value: Any = document
    for part in re.findall(r"[^.\[\]]+", name):
        if not isinstance(value, Mapping) or part not in value:
            raise HyperYamlError(f"!ref <{name}> names a key that is not in the file")
        value = value[part]
    return value


def _number(value: Any, expression: str) -> float:
    if type(value) not in (int, float):
        raise HyperYamlError(f"!ref {expression} computes with {value!r}, which is not a number")
    return value


_Loader.add_multi_constructor("!new:", _object("!new"))
_Loader.add_multi_constructor("!name:", _object("!name"))
_Loader.add_multi_constructor("!apply:", lambda loader, name, node: None)
_Loader.add_constructor("!ref", _reference)
_Loader.add_constructor("!tuple", _sequence)
_Dumper.add_representer(Reference, lambda dumper, value: dumper.represent_scalar("!ref", value.expression))
_Dumper.add_representer(Tagged, lambda dumper, value: dumper.represent_mapping(value.tag, dict(value.entries)))
