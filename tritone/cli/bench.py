"""Run a benchmark: `tritone bench NAME ...` is `python benchmarks/NAME.py ...` of the source checkout."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tritone.cli.checkout import checkout, environment
from tritone.cli.parser import suggestion
from tritone.errors import TritoneError


def scripts(root: Path) -> dict[str, Path]:
    """Return the benchmark scripts of a checkout by name, such as `load` and `cosyvoice/streaming`."""
    folder = root / "benchmarks"
    paths = sorted(path for path in folder.rglob("*.py") if 'if __name__ == "__main__"' in path.read_text())
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def help_text(named: dict[str, Path]) -> str:
    """Return the list of benchmarks, each with the first line of its documentation."""
    lines = []
    for name, path in named.items():
        documentation = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines.append(f"  {name:26} {documentation.partition(chr(10))[0]}")
    usage = "usage: tritone bench NAME ...; tritone bench NAME --help lists its options"
    return "\n".join((usage, "", *lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        root = checkout("benchmarks")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    named = scripts(root)
    if not given or given[0] in ("-h", "--help"):
        print(help_text(named))
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name not in named:
        print(f"error: unknown benchmark {name}{suggestion(name, named)}", file=sys.stderr)
        return 2
    return subprocess.run([sys.executable, str(named[name]), *rest], env=environment(root), check=False).returncode
