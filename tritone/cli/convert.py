"""Convert checkpoints.

    tritone convert huggingface CHECKPOINT --out FOLDER               the language model as a transformers folder
    tritone convert huggingface CHECKPOINT --out llm.pt --back FOLDER    such a folder as the checkpoint's own file
    tritone convert compress SOURCE TARGET                            a trained Bert-VITS2 folder as a small one

`tritone convert CONVERSION --help` lists the options of a conversion.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tritone.catalog import command_module
from tritone.cli.parser import suggestion
from tritone.errors import TritoneError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the conversion; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if given else 2
    name, rest = given[0], given[1:]
    if name == "huggingface":
        from tritone.export import to_huggingface

        return to_huggingface.main(rest)
    if name == "compress":
        return compress(rest)
    print(f"error: unknown conversion {name}{suggestion(name, ('huggingface', 'compress'))}", file=sys.stderr)
    return 2


def compress(arguments: Sequence[str]) -> int:
    """Run the compression for the kind of checkpoint the first argument, a folder or a file in it, belongs to."""
    source = next((Path(word) for word in arguments if not word.startswith("-")), None)
    if source is None:
        print("usage: tritone convert compress SOURCE TARGET ...", file=sys.stderr)
        return 2
    try:
        module = command_module(source.parent if source.is_file() else source, "compress")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(module.main(list(arguments)))
