"""The client's errors; each message says what to do."""

from __future__ import annotations

from collections.abc import Callable

from tritonclient.utils import InferenceServerException

UNREACHABLE = ("unavailable", "connection refused", "failed to connect", "name resolution", "errno 111", "not known")
LATE = ("deadline exceeded", "timed out", "timeout")


class SpeechError(Exception):
    """Base of the errors that a SpeechClient raises."""


class ServerUnreachable(SpeechError):
    """No server answers at the address, or it is not ready in time."""

    def __init__(self, url: str, protocol: str, detail: str) -> None:
        super().__init__(
            f"no Triton server answers {protocol} at {url} ({detail}); start one with "
            f"`python -m tritone.serve CHECKPOINT`, or give its address with --url"
        )


class ServerNotReady(SpeechError):
    """The server answers but its models are not loaded yet."""

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(f"the server at {url} was not ready after {seconds:g} s; its log says what it is loading")


class ServerBusy(SpeechError):
    """The server is at its limit; it will accept the request later."""


class ServerRecovering(SpeechError):
    """A process of the server ended during the request, or is being started again; the client may try again."""


class ModelNotFound(SpeechError):
    """The server runs, but not this model."""

    def __init__(self, model: str, loaded: list[str]) -> None:
        self.loaded = loaded
        super().__init__(f"the server has no model {model!r} ready; loaded are: {', '.join(loaded) or 'none'}")


class ModelNotUsable(SpeechError):
    """The model's config lacks a parameter that the client needs."""


class InvalidArgument(SpeechError):
    """The server refused the request's content; its own message names the field."""


class RequestFailed(SpeechError):
    """The server accepted the request and failed, or exceeded the timeout."""


def explain(
    error: Exception, model: str, url: str, protocol: str, timeout: float, loaded: Callable[[], list[str]]
) -> SpeechError:
    """Return the most specific error of this module; `loaded` names the server's models."""
    text = str(error.message() if isinstance(error, InferenceServerException) else error)
    status = str(error.status() if isinstance(error, InferenceServerException) else "")
    if "INVALID_ARGUMENT:" in text:
        return InvalidArgument(text[text.index("INVALID_ARGUMENT:") :])
    if "BUSY:" in text:
        return ServerBusy(f"{model} is busy: {text.split('BUSY:', 1)[1].strip()}")
    if "; try again" in text or "Stream removed" in text:
        return ServerRecovering(text)
    lowered = f"{status} {text}".lower()
    if "unknown model" in lowered or "is not ready" in lowered or "is not found" in lowered:
        return ModelNotFound(model, loaded())
    if "invalid_argument" in status.lower() or status == "400":
        return InvalidArgument(text)
    if any(word in lowered for word in LATE):
        return RequestFailed(f"{model} gave no answer within {timeout:g} s ({text})")
    if isinstance(error, OSError) or any(word in lowered for word in UNREACHABLE):
        return ServerUnreachable(url, protocol, text)
    return RequestFailed(f"{model} failed: {text}")
