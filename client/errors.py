"""What can go wrong between a client and the speech server, each in a sentence that says what to do."""

from __future__ import annotations


class SpeechError(Exception):
    """Base of every error a SpeechClient raises on purpose."""


class ServerUnreachable(SpeechError):
    """Nothing answers at the address, or what answers is not ready in time."""

    def __init__(self, url: str, protocol: str, detail: str) -> None:
        super().__init__(
            f"no Triton server answers {protocol} at {url} ({detail}); start one with "
            f"`python -m tritone.serve CHECKPOINT`, or give its address with --url"
        )


class ServerNotReady(SpeechError):
    """The server answers but its models are not loaded yet."""

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(f"the server at {url} was not ready after {seconds:g} s; its log says what it is loading")


class ModelNotFound(SpeechError):
    """The server runs, but not this model."""

    def __init__(self, model: str, loaded: list[str]) -> None:
        self.loaded = loaded
        super().__init__(f"the server has no model {model!r} ready; loaded are: {', '.join(loaded) or 'none'}")


class ModelNotUsable(SpeechError):
    """The model's config lacks something this client has to know."""


class InvalidArgument(SpeechError):
    """The server refused the request's content; the text is the server's own and names the field."""


class RequestFailed(SpeechError):
    """The server accepted the request and failed, or took longer than the client waits."""
