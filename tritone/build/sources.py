"""The source files of a package that stand behind a function, found by reading imports without running them."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any


def source_files(function: Callable[..., Any]) -> list[Path]:
    """Return the function's file and every file of the same top-level package it imports, sorted by module name.

    Imports inside functions count. Other packages do not count: their versions are recorded instead.
    """
    while isinstance(function, functools.partial):
        function = function.func
    module = inspect.getmodule(function)
    start = getattr(module, "__name__", "")
    if module is None or not getattr(module, "__file__", None):
        raise ValueError(f"{function!r} is not defined in a source file")
    first = Path(str(module.__file__))
    paths: dict[str, Path] = {start: first}
    root = first.parents[start.count(".") + (first.stem == "__init__")]
    queue = [start]
    while queue:
        name = queue.pop()
        package = name.split(".")[0]
        for imported in imported_modules(paths[name], name):
            if imported.split(".")[0] == package and imported not in paths and (path := locate(imported, root)):
                paths[imported] = path
                queue.append(imported)
    return [paths[name] for name in sorted(paths)]


def imported_modules(path: Path, name: str) -> set[str]:
    """Return the dotted names a file imports.

    `from a import b` gives both `a` and `a.b`, and the second may not be a module.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names - {name}


def locate(module: str, root: Path) -> Path | None:
    """Return the source file of a dotted name, or None if it is not a module of the package in the folder `root`."""
    base = root.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
