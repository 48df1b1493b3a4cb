"""The optional packages of the text front ends, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tritone.errors import EnvironmentProblem


def need(module: str) -> Any:
    """Return the module of an optional package.

    Raises EnvironmentProblem, which names the extra to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise EnvironmentProblem(
            f"Bert-VITS2 reads text with the package {error.name}, which is not installed; "
            f"run: pip install 'tritone[bert-vits2]'"
        ) from error
