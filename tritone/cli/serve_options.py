"""Options of `tritone serve`: the checkpoint and its engines, the front door, and Triton itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tritone.build.targets import TARGETS
from tritone.cli.parser import Parser
from tritone.door.limits import Limits
from tritone.door.tls import Tls
from tritone.engines.open import engine_name
from tritone.errors import ConfigError
from tritone.lm.served import ENGINES
from tritone.supervisor.locate import Ports
from tritone.supervisor.preflight import missing_command

DESCRIPTION = """Serve a checkpoint on a real Triton server, behind a front door that checks every request.

Missing and stale artifacts are exported first. With `--check` every model is loaded, both entries speak once, and the
exit status is 0 if that worked. With `--run CMD ...` the command runs while the server is up (a server that already
serves this model is used), and its status is returned.
"""
OWN = (
    "model-repository", "backend-directory", "model-control-mode", "load-model", "http-address", "http-port",
    "grpc-address", "grpc-port", "metrics-address", "metrics-port", "allow-http", "allow-grpc", "backend-config",
    "http-restricted-api", "grpc-restricted-protocol", "allow-vertex-ai", "allow-sagemaker", "reuse-http-port",
    "reuse-grpc-port", "grpc-use-ssl", "grpc-use-ssl-mutual", "grpc-server-cert", "grpc-server-key", "grpc-root-cert",
)  # fmt: skip
"""Options of Triton that this program sets itself, or that the front door has options of its own for."""


LLM_URL = "http://127.0.0.1:8355"
FORMATS_ON_CPU = {"onnxruntime": ("onnx", "llm"), "torchscript": ("torchscript", "llm"), "torch": ("llm",)}
"""The engines of the cpu target, and the formats each needs."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = Parser(prog="tritone serve", description=DESCRIPTION)
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder in its publisher's layout")
    parser.add_argument(
        "--target", default="cpu", choices=TARGETS, help="what the server runs on (default: %(default)s)"
    )
    parser.add_argument(
        "--engine",
        type=engine_name,
        choices=tuple(FORMATS_ON_CPU),
        help="cpu: engine that runs the stages (default: onnxruntime)",
    )
    parser.add_argument(
        "--device", default="cpu", help="torch, torchscript: cpu, cuda, or cuda:1 for one GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--dtype",
        default="",
        help="torch: of the language model, such as bfloat16, where the checkpoint has the choice",
    )
    parser.add_argument(
        "--attention", default="", help="torch: of the language model, such as sdpa, or auto for the fastest that runs"
    )
    parser.add_argument(
        "--build-dir", type=Path, help="build folder of the exported artifacts (default: build/<checkpoint name>)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    for name, port in vars(Ports()).items():
        parser.add_argument(f"--{name}-port", type=int, default=port, help="default: %(default)s")
    parser.add_argument(
        "--threads",
        type=int,
        default=min(4, os.cpu_count() or 1),
        help="threads of each network (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds to wait until all models are loaded (default: %(default)g)"
    )
    parser.add_argument(
        "--llm-url", default=os.environ.get("TRITONE_LLM_URL", LLM_URL),
        help="gpu: the language model's server (default: TRITONE_LLM_URL or %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--llm-engine", default=os.environ.get("TRITONE_LLM_ENGINE", "trtllm"), choices=tuple(ENGINES),
        help="gpu: kind of that server (default: TRITONE_LLM_ENGINE or %(default)s)",
    )  # fmt: skip
    add_options(parser)
    parser.add_argument(
        "--verify", action="store_true",
        help="read every byte of checkpoint and artifacts first, also where size and time are as they were",
    )  # fmt: skip
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="load every model, speak once through each entry, and exit")
    mode.add_argument("--run", nargs=argparse.REMAINDER, metavar="CMD", help="run a command while the server is up")
    args = parser.parse_args(arguments)
    problem = missing_command(args.run) if args.run is not None else ""
    if problem:
        parser.error(problem)
    return args


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    limits = Limits()
    parser.add_argument(
        "--streams", type=positive, metavar="N",
        help="streams spoken at a time; more are refused as BUSY (default: as many as the measured speed carries)",
    )  # fmt: skip
    parser.add_argument(
        "--max-request-mb", type=positive, default=limits.request_bytes >> 20, metavar="MB",
        help="largest request (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-server-mb", type=positive, default=1024, metavar="MB",
        help="memory of Triton's own process above which it is started again once it is idle (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--alias", action="append", default=[], metavar="NAME",
        help="another name under which clients may ask for the model, such as cosyvoice2_dit or spark_tts for clients "
        "that know these only; can be repeated",
    )  # fmt: skip
    parser.add_argument("--tls-certificate", type=Path, metavar="PEM", help="certificate chain of the public ports")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    parser.add_argument(
        "--triton", action="append", default=[], metavar="OPTION=VALUE",
        help="an option for tritonserver, such as log-verbose=1 or trace-config=mode=opentelemetry; can be repeated",
    )  # fmt: skip


def positive(text: str) -> int:
    """Return the text as a number above zero, for argparse."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return number


def limits_of(args: argparse.Namespace) -> Limits:
    """Return the front door's limits."""
    return replace(Limits(), streams=args.streams, request_bytes=args.max_request_mb << 20)


def tls_of(args: argparse.Namespace) -> Tls:
    """Return the certificate and key of the public ports; raise EnvironmentProblem if they cannot be used."""
    tls = Tls(args.tls_certificate, args.tls_key)
    tls.context()
    return tls


def triton_options(args: argparse.Namespace) -> dict[str, str]:
    """Return Triton's own options; raise ConfigError for one that this program sets itself."""
    options = {}
    for text in args.triton:
        name, equals, value = text.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(f"--triton {text}: give an option and its value, such as --triton log-verbose=1")
        if name in OWN:
            raise ConfigError(f"--triton {name}: tritone serve sets this option itself; see tritone serve --help")
        options[name] = value
    return options
