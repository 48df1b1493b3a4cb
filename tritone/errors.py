"""The errors Tritone raises on purpose: each says what was asked, what was found, what exists and what to run."""

from __future__ import annotations


class TritoneError(Exception):
    """The base of every error that a user reads; the message is a full sentence."""

    @property
    def sentence(self) -> str:
        """The message without the name of a status."""
        return str(self)


class InvalidRequest(TritoneError):
    """The content of a request is invalid: the server answers INVALID_ARGUMENT and keeps serving."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self._problem = field, problem
        super().__init__(f"INVALID_ARGUMENT: {field}: {problem}")

    @property
    def sentence(self) -> str:
        """The field and its problem, as they are said of a file and not of a request."""
        return f"{self.field}: {self._problem}"


class Cancelled(TritoneError):
    """The client of a request has left; the rest of its work is not done."""


class CheckpointError(TritoneError):
    """A checkpoint directory is incomplete, damaged, or of another model."""


class ConfigError(TritoneError):
    """A configuration file asks for something that does not exist or does not fit."""


class ArtifactError(TritoneError):
    """An exported file is missing, stale, or does not have the inputs and outputs its stage declares."""


class EnvironmentProblem(TritoneError):
    """Something outside the repository is missing: a system library, a port, a package."""
