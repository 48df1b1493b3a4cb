"""Options of `tritone serve` that concern the front door and Triton itself."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tritone.door.limits import Limits
from tritone.door.tls import Tls
from tritone.errors import ConfigError

OWN = (
    "model-repository", "backend-directory", "model-control-mode", "load-model", "http-address", "http-port",
    "grpc-address", "grpc-port", "metrics-address", "metrics-port", "allow-http", "allow-grpc", "backend-config",
    "http-restricted-api", "grpc-restricted-protocol", "allow-vertex-ai", "allow-sagemaker", "reuse-http-port",
    "reuse-grpc-port", "grpc-use-ssl", "grpc-use-ssl-mutual", "grpc-server-cert", "grpc-server-key", "grpc-root-cert",
)  # fmt: skip
"""Options of Triton that this program sets itself, or that the front door has options of its own for."""


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
