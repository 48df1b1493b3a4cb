"""The `tritone` command: `tritone COMMAND ...`, also `python -m tritone COMMAND ...`.

Each command is a module with `main(arguments) -> exit status`, imported only when it is chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from tritone.cli.parser import suggestion
from tritone.missing_packages import sentence


class Command(NamedTuple):
    """A command: its line in the list of commands, its module, and arguments it always has."""

    help: str
    module: str
    arguments: tuple[str, ...] = ()


COMMANDS = {
    "say": Command("speak a text, with a server of its own or one that is running", "tritone.cli.say"),
    "serve": Command("serve a checkpoint on a Triton server", "tritone.serve"),
    "check": Command("start the server, load every model, speak once and stop", "tritone.serve", ("--check",)),
    "build": Command("export a checkpoint and compare every file with it", "tritone.export.build_engines"),
    "parity": Command("compare what is built with the checkpoint again", "tritone.parity.check_build"),
    "voices": Command("list, add and remove the voices of a checkpoint", "tritone.cli.voices"),
    "train": Command("train a recipe (needs the source checkout)", "tritone.cli.train"),
    "convert": Command("convert checkpoints: transformers folders and back, smaller files", "tritone.cli.convert"),
    "bench": Command("run a benchmark (needs the source checkout)", "tritone.cli.bench"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for a failure, 2 for a wrong command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(help_text())
        return 0 if given else 2
    if given[0] == "--version":
        from tritone import __version__

        print(__version__)
        return 0
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        known = ["--help", "--version"] if kind == "option" else COMMANDS
        print(f"error: unknown {kind} {name}{suggestion(name, known)}\nSee tritone --help", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    try:
        return int(import_module(command.module).main([*command.arguments, *rest]) or 0)
    except ModuleNotFoundError as error:
        said = sentence(error)
        if not said:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1


def help_text() -> str:
    """Return the list of commands."""
    lines = [f"  {name:8} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        (
            "usage: tritone COMMAND ...",
            "",
            "Text-to-speech checkpoints in, a Triton deployment out, compared stage by stage.",
            "",
            *lines,
            "",
            "tritone COMMAND --help lists a command's options; tritone --version prints the version.",
        )
    )
