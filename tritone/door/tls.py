"""TLS of the public ports: a certificate and a key in PEM files, for both protocols."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritone.errors import EnvironmentProblem


@dataclass(frozen=True)
class Tls:
    """The files of a certificate chain and its key; without them connections are not encrypted."""

    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise EnvironmentProblem("TLS needs both a certificate and its key: --tls-certificate FILE --tls-key FILE")

    def context(self) -> ssl.SSLContext | None:
        """Return the setting of the HTTP port; raise EnvironmentProblem if the files do not fit."""
        if self.certificate is None or self.key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise EnvironmentProblem(f"TLS cannot use {self.certificate} and {self.key}: {error}") from error
        return context

    def credentials(self) -> Any:
        """Return the setting of the gRPC port, or None without a certificate."""
        if self.certificate is None or self.key is None:
            return None
        import grpc

        self.context()
        return grpc.ssl_server_credentials([(self.key.read_bytes(), self.certificate.read_bytes())])
