"""The answer to a request that the front door does not pass on."""

from __future__ import annotations

from tritone.errors import TritoneError

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 413,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The HTTP status of each gRPC status that the front door answers with."""


class Refused(TritoneError):
    """A request that is answered with a gRPC status and a sentence; `status` is one of `HTTP_STATUS`."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)

    @property
    def http(self) -> int:
        """The HTTP status of the same answer."""
        return HTTP_STATUS[self.status]


def invalid(field: str, problem: str) -> Refused:
    """Return the refusal of an input, worded as the models word theirs."""
    return Refused("INVALID_ARGUMENT", f"INVALID_ARGUMENT: {field}: {problem}")


def busy(problem: str) -> Refused:
    """Return the refusal of a request that the machine cannot carry now."""
    return Refused("UNAVAILABLE", f"BUSY: {problem}; try again later")
