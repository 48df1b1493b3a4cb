"""The checkpoint a running server speaks with: published in its entries' configs, compared before a server is used."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path

from tritone.build.hashes import Hashes
from tritone.build.identity import checkpoint_hash, voices_hash
from tritone.build.manifest import HASHES
from tritone.errors import EnvironmentProblem
from tritone.stage import Family
from tritone.supervisor.health import DIRECTLY
from tritone.supervisor.preflight import in_url

PARAMETER = "checkpoint"
"""The parameter of an entry's config: the name of the checkpoint's folder and the beginnings of its hashes."""
DIGITS = 12


def label(family: Family, checkpoint: Path, build: Path) -> str:
    """Return "NAME HASH" of a checkpoint, or "NAME HASH-HASH" with the hash of its registered voices.

    A running server has the voices that there were when it started.

    Args:
        build: build folder of the checkpoint, where hashes of its files are remembered.
    """
    folder = checkpoint.resolve()
    hashes = Hashes(build / HASHES)
    voices = voices_hash(family, folder, hashes)[:DIGITS]
    return f"{folder.name} {checkpoint_hash(family, folder, hashes)[:DIGITS]}{'-' if voices else ''}{voices}"


def published(http_port: int, host: str, model: str) -> str:
    """Return the label in the model's config on a running server, empty if it has none."""
    url = f"http://{in_url(host)}:{http_port}/v2/models/{model}/config"
    try:
        with DIRECTLY.open(url, timeout=10) as answer:
            return str(json.load(answer)["parameters"][PARAMETER]["string_value"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""


def refuse_another(http_port: int, host: str, model: str, own: str) -> None:
    """Raise EnvironmentProblem unless the server on the port speaks with this checkpoint.

    Args:
        own: the label of the checkpoint that is to speak.
    """
    place, other = f"{in_url(host)}:{http_port}", published(http_port, host, model)
    if not other:
        print(f"the server at {place} does not say which checkpoint it serves; it is used", file=sys.stderr, flush=True)
    elif other.split()[-1].split("-")[0] != own.split()[-1].split("-")[0]:
        raise EnvironmentProblem(
            f"the server at {place} speaks with another checkpoint: {described(other)}, not {described(own)}; stop it, "
            "or choose other ports with --http-port, --grpc-port and --metrics-port"
        )
    elif other.split()[-1] != own.split()[-1]:
        raise EnvironmentProblem(
            f"the server at {place} speaks with the voices that {described(own)} had when it started; they have "
            "changed since: start it again"
        )


def described(text: str) -> str:
    """Return a label in words: "NAME (HASH)"."""
    name, _, digits = text.rpartition(" ")
    return f"{name} ({digits.split('-')[0]})"
