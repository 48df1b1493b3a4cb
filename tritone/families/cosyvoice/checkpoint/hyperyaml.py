"""HyperPyYAML, read and written as data: tags name classes, but nothing is imported, constructed or called.

`!new:` and `!name:` mappings become plain dictionaries that keep the dotted name under "!new" or "!name"; `!apply:`
becomes None. `!ref` expressions (a reference, or arithmetic over references and numbers) are evaluated by a walk over
their syntax tree that allows the operators + - * / // alone. Each expression is evaluated once, and what the text
stands for with every reference written out is bounded.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tritone.checkpoint.documents import DEPTH, YAML_NODES, parse_yaml
from tritone.errors import TritoneError

LARGEST = 1e15
"""The largest number that an expression may compute."""
EXPRESSION = 200
"""Most characters of an expression."""


class HyperYamlError(TritoneError):
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
    """Return the document's top-level mapping with all references resolved.

    Raises HyperYamlError for a text that is not such a document, or that stands for too much.
    """
    document = parse_yaml(text, "the text", _Loader, HyperYamlError)  # a SafeLoader: unknown tags are errors
    if not isinstance(document, dict):
        raise HyperYamlError(f"the file is a {type(document).__name__}, not a mapping")
    return dict(_References(document).resolve(document, (), 0))


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


class _References:
    """The references of one document; each expression is evaluated once, and every value that they bring is counted."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._known: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def resolve(self, value: Any, path: tuple[str, ...], depth: int) -> Any:
        """Return the value with all references in it resolved; `path` holds the references being followed."""
        self._count(1)
        if depth > DEPTH:
            raise HyperYamlError(f"references make lists or mappings nest too deeply; at most {DEPTH} are allowed")
        if isinstance(value, Reference):
            return self._follow(value.expression, path, depth)
        if isinstance(value, dict):
            return {key: self.resolve(item, path, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, path, depth + 1) for item in value]
        return value

    def _follow(self, expression: str, path: tuple[str, ...], depth: int) -> Any:
        if expression in path:
            raise HyperYamlError(f"!ref {expression} refers to itself")
        if expression not in self._known:
            before = self._values
            value = self._evaluate(expression, (*path, expression), depth)
            if not isinstance(value, dict | list):
                self._values = before + 1
            self._known[expression] = value, self._values - before
            return value
        value, values = self._known[expression]
        self._count(values)
        return value

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > YAML_NODES:
            raise HyperYamlError(f"it stands for more than {YAML_NODES} values, with each reference written out")

    def _evaluate(self, expression: str, path: tuple[str, ...], depth: int) -> Any:
        names: list[str] = []

        def placeholder(match: re.Match[str]) -> str:
            names.append(match.group(1))
            return f"_{len(names) - 1}"

        if len(expression) > EXPRESSION:
            raise HyperYamlError(f"a !ref has {len(expression)} characters; at most {EXPRESSION} are allowed")
        source = _NAME.sub(placeholder, expression).strip()
        try:
            tree = ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError, MemoryError) as error:
            raise HyperYamlError(f"cannot read !ref {expression}") from error

        def walk(node: ast.expr) -> Any:
            if isinstance(node, ast.Name) and re.fullmatch("_[0-9]+", node.id) and int(node.id[1:]) < len(names):
                return self.resolve(_lookup(names[int(node.id[1:])], self._document), path, depth)
            if isinstance(node, ast.Constant) and type(node.value) in (int, float):
                return _number(node.value, expression)
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                return -_number(walk(node.operand), expression)
            if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
                left, right = _number(walk(node.left), expression), _number(walk(node.right), expression)
                try:
                    return _number(_OPERATORS[type(node.op)](left, right), expression)
                except ZeroDivisionError:
                    raise HyperYamlError(f"!ref {expression} divides by zero") from None
            raise HyperYamlError(
                f"!ref {expression} is not supported; it may have references, numbers and + - * / // only"
            )

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
        raise HyperYamlError(f"!ref {expression} computes with {str(value)[:60]!r}, which is not a number")
    if not abs(value) <= LARGEST:
        raise HyperYamlError(f"!ref {expression} computes with a number beyond {LARGEST:g}, or with none at all")
    number: float = value
    return number


_Loader.add_multi_constructor("!new:", _object("!new"))
_Loader.add_multi_constructor("!name:", _object("!name"))
_Loader.add_multi_constructor("!apply:", lambda loader, name, node: None)
_Loader.add_constructor("!ref", _reference)
_Loader.add_constructor("!tuple", _sequence)
_Dumper.add_representer(Reference, lambda dumper, value: dumper.represent_scalar("!ref", value.expression))
_Dumper.add_representer(Tagged, lambda dumper, value: dumper.represent_mapping(value.tag, dict(value.entries)))
