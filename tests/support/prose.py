"""Find prose that is not plain English: docstrings with the wrong opening, private vocabulary, lines over 120 columns.

python tests/support/prose.py [PATH ...]
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPENINGS = re.compile(
    r"(What|How|Where|Why|Who|Whom|Whose|When|Which|Whether|Those|These|The same|Of|As|Nothing but|Whatever|"
    r"(Return|Yield) (what|where|those|who|why|the same|nothing))\b(?! \w+=)"
)
"""Openings that leave the reader to guess the subject or the verb."""
PHRASES = re.compile(
    r"\b(is|are|was|were) told\b|\btold (by|apart|of|the|that|to|when|in|how)\b|\b(is|are|be|was|been) heard\b"
    r"|\bheard (by|of|in|from|the|at|as|with|where)\b|\bwho(ever)? (is bound|asks|reads|listens)\b"
    r"|\b(is|are|be) no (whole|speech|completion|model|file|code|directory|sound|number|such file)\b|\bwhat is no\b"
    r"|\bspeaks (worse|better) so\b|\bat most \d+ go\b|\bis none that\b|\bmeans? nothing\b|\bnext to nothing\b"
    r"|\btakes? back\b|\btaken back\b|\bgoes away\b|\bgone away\b|\bonly so\b|\bso (made|trained|built)\b"
    r"|\bin the place of\b|\bnot waited for\b|\bof its own accord\b|\bthere is gets\b",
    re.IGNORECASE,
)
"""Word order and private vocabulary that an engineer stumbles on."""
COLUMNS = 120


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def python_problems(source: str, strings: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and problem of every docstring opening and phrase in a Python file.

    Without `strings` only docstrings and comments are read: tests quote texts that are spoken.
    """
    suspicious = PHRASES.search(source) is not None  # taking a file apart is slow
    for line, text in docstrings(ast.parse(source)):
        if OPENINGS.match(text):
            yield line, f"opening: {text.splitlines()[0][:80]}"
        if not strings and suspicious:
            yield from ((line, problem) for _, problem in phrases(text))
    if strings:
        yield from phrases(source)
    if strings or not suspicious:
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], problem) for _, problem in phrases(token.string))


def phrases(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and problem of every phrase in a text."""
    for number, line in enumerate(source.splitlines(), 1):
        if found := PHRASES.search(line):
            yield number, f"phrase: {found.group(0)}"


def markdown_problems(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and problem of every phrase and long line of a page; table rows and code may be longer."""
    fenced = False
    for number, line in enumerate(source.splitlines(), 1):
        fenced ^= line.startswith("```")
        table = line.lstrip().startswith("|")
        if len(line) > COLUMNS and not (fenced or table or line.startswith("    ")):
            yield number, f"{len(line)} columns"
    yield from phrases(source)


def problems(path: Path) -> list[str]:
    """Return `file:line: problem` of one Python or Markdown file."""
    source = path.read_text(encoding="utf-8")
    strings = not path.is_relative_to(ROOT / "tests")
    lines = python_problems(source, strings) if path.suffix == ".py" else markdown_problems(source)
    return [f"{path.relative_to(ROOT)}:{line}: {problem}" for line, problem in sorted(lines)]


def files(*paths: str) -> list[Path]:
    """Return the tracked Python and Markdown files below these paths, this one left out."""
    listed = subprocess.run(["git", "ls-files", *paths], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return [
        ROOT / name
        for name in listed.splitlines()
        if name.endswith((".py", ".md")) and ROOT / name != Path(__file__).resolve() and (ROOT / name).exists()
    ]


if __name__ == "__main__":
    lines = [problem for path in files(*sys.argv[1:]) for problem in problems(path)]
    print("\n".join(lines))
    print(f"{len(lines)} problems", file=sys.stderr)
