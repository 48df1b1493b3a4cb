"""Command lines of the `tritone` commands: help texts end with their defaults, a misspelt option names the nearest one.

Standard library only.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn


class Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and appends "(default: ...)" to options that have a default worth naming."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        empty = action.default is None or action.default is False or action.default in ([], "", argparse.SUPPRESS)
        if not text or empty or not action.option_strings or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an unknown option before anything else, with the nearest known one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": Help, **settings})
        self._takes_checkpoint = False

    def add_checkpoint(self) -> None:
        """Add the checkpoint as a positional argument and as `--model-dir`; `model_dir` of the result holds it."""
        self.add_argument("checkpoint", nargs="?", type=Path, help="checkpoint directory in its publisher's layout")
        self.add_argument("--model-dir", type=Path, metavar="CHECKPOINT", help="the same, as an option")
        self._takes_checkpoint = True

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Return the options as a namespace; exits with status 2 and a sentence when they are wrong."""
        given = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown(given)
        given, command = self._cut_command(given)
        parsed = super().parse_args(given, namespace)
        for name, words in command.items():
            setattr(parsed, name, words)
        if self._takes_checkpoint:
            if (parsed.checkpoint is None) == (parsed.model_dir is None):
                self.error("give one checkpoint directory, such as checkpoints/nano")
            parsed.model_dir = parsed.model_dir or parsed.checkpoint
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message, and how to see all options, to stderr; exit with status 2."""
        self.exit(2, f"error: {message}\nSee {self.prog} --help\n")

    def _cut_command(self, given: list[str]) -> tuple[list[str], dict[str, list[str]]]:
        """Return the words up to an option that takes all others, and those others: argparse refuses "--" in them."""
        taking = {name: a.dest for a in self._actions if a.nargs == argparse.REMAINDER for name in a.option_strings}
        for index, word in enumerate(given):
            if word in taking:
                return given[: index + 1], {taking[word]: given[index + 1 :]}
        return given, {}

    def _refuse_unknown(self, given: Sequence[str]) -> None:
        known, rest = option_strings(self)
        for word in given:
            name = word.split("=")[0]
            if word == "--" or name in rest:
                return
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                self.error(f"unknown option {name}{suggestion(name, known)}")


def option_strings(parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Return the options of a parser and its subcommands, and those after which everything is another command's."""
    known: list[str] = []
    rest: list[str] = []
    for action in parser._actions:
        known += action.option_strings
        if action.nargs == argparse.REMAINDER:
            rest += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                known += option_strings(subcommand)[0]
    return known, rest


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" for the nearest known name, or an empty string if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
