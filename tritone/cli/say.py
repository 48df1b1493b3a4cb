"""Speak a text: with a server that is started for it, or one that is running.

    tritone say "Good morning." --speaker rms -o out.wav
    tritone say "Good morning." --speaker rms -o out.wav --checkpoint checkpoints/nano
    tritone say "Good morning." --speaker rms -o out.wav --url voices.example:8001

Without `--url` the checkpoint is served on this machine; a server that already serves it on the port is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tritone.catalog import open_family
from tritone.cli.parser import Parser
from tritone.errors import TritoneError

CHECKPOINT = Path("checkpoints/nano")


def add_server_options(parser: Parser) -> None:
    """Add the options of the server that is started."""
    parser.add_argument(
        "--checkpoint", type=Path, default=Path(os.environ.get("TRITONE_CHECKPOINT", CHECKPOINT)),
        help="checkpoint to serve (default: TRITONE_CHECKPOINT or %(default)s)",
    )  # fmt: skip
    parser.add_argument("--build-dir", type=Path, help="its build folder (default: build/<name of the checkpoint>)")
    parser.add_argument("--http-port", type=int, default=8000, help="port of the server")
    parser.add_argument("--grpc-port", type=int, default=8001, help="port of the server")
    parser.add_argument("--metrics-port", type=int, default=8002, help="port of the server")


def command_line() -> Parser:
    """Return the command's options: those of the client and those of the server."""
    from tritone.client import command as client

    parser = Parser(prog="tritone say", description=__doc__, parents=[client.parser()], add_help=False)
    add_server_options(parser)
    texts = {
        "url": "address of a running server (default: a server of its own)",
        "model": "model name (default: the checkpoint's; with --url cosyvoice2)",
    }
    for action in parser._actions:
        action.help = texts.get(action.dest, action.help)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Speak; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = command_line().parse_args(given)
    own = Parser(add_help=False, allow_abbrev=False)
    add_server_options(own)
    server, client_arguments = own.parse_known_args(given)
    if options.url:
        from tritone.client import command as client

        return client.main(client_arguments)
    try:
        name = open_family(server.checkpoint).name
    except TritoneError as error:
        print(f"error: {error}; choose it with --checkpoint, or a running server with --url", file=sys.stderr)
        return 1
    if not any(word.partition("=")[0] == "--model" for word in given):
        client_arguments += ["--model", name]
    port = server.http_port if options.http else server.grpc_port
    client_arguments += ["--url", f"127.0.0.1:{port}"]
    from tritone import serve

    ports = [f"--{kind}-port={getattr(server, f'{kind}_port')}" for kind in ("http", "grpc", "metrics")]
    build = ["--build-dir", str(server.build_dir)] if server.build_dir else []
    client_command = [sys.executable, "-m", "tritone.client.command", *client_arguments]
    return serve.main([str(server.checkpoint), *ports, *build, "--run", *client_command])
