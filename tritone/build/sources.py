"""Which source files of this package stand behind a function, found by reading imports, never by running them."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any


def source_files(function: Callable[..., Any]) -> list[Path]:
    """Return the file that defines the function and every file of the same top-level package it imports, sorted by
    module.

    Imports inside functions count; packages of other people do not (their versions are recorded instead).
    """
    while isinstance(function, functools.partial):
        function = function.func
    module = inspect.getmodule(function)
    start = getattr(module, "__name__", "")
    if module is None or not getattr(module, "__file__", None):
        raise ValueError(f"{function!r} is not defined in a source file")
    first = Path(str(module.__file__))
    found: dict[str, Path] = {start: first}
    root = first.parents[start.count(".") + (first.stem == "__init__")]
    queue = [start]
    while queue:
        name = queue.pop()
        package = name.split(".")[0]
        for imported in imported_modules(found[name], name):
            if imported.split(".")[0] == package and imported not in found and (path := locate(imported, root)):
                found[imported] = path
                queue.append(imported)
    return [found[name] for name in sorted(found)]


def imported_modules(path: Path, name: str) -> set[str]:
    """Dotted names a file imports; `from a import b` gives both `a` and `a.b`, of which one may be no module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found - {name}


def locate(module: str, root: Path) -> Path | None:
    """Return the source file of a dotted name below the folder that holds its top-level package.

    None if it is no module.
    """
    base = root.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
