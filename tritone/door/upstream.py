"""Triton's own errors, translated for clients of the front door."""

from __future__ import annotations

import re

import grpc

from tritone.door.health import Health
from tritone.door.refusal import HTTP_STATUS, Refused

DEAD = re.compile(r"Stub process '[^']*' is not healthy|Failed to process the request\(s\) for model instance")
"""Messages of a model whose process has died or does not answer."""
GONE = re.compile(r"has no available versions|is not ready|unknown model")
"""Messages of a model that is being loaded again; the request has not been run."""
OWN_ID = re.compile(r"\[request id: [^\]]*\] ")
"""The id that the front door gave a request, which its client does not know."""
MEMORY = re.compile(r"shared memory", re.IGNORECASE)
"""Messages that name the server's shared memory, which clients must not learn."""


class ModelGone(Exception):
    """The request reached a model that was being loaded again, and can be sent once more."""


def translate(status: str, message: str, model: str, health: Health) -> Refused:
    """Return the refusal that tells a client about an error of Triton's; raise ModelGone to send the request again."""
    state, message = health.state, OWN_ID.sub("", message)
    if GONE.search(message) and health.concerns(model):
        raise ModelGone
    if DEAD.search(message) or (status == "UNAVAILABLE" and not message.startswith(("BUSY", "in ensemble"))):
        reason = state.reason or "a model's process does not answer and is started again"
        return Refused("UNAVAILABLE", f"{model} could not finish the request: {reason}; try again")
    if MEMORY.search(message):
        return Refused("RESOURCE_EXHAUSTED", f"{model} has too little shared memory for this request")
    return Refused(status if status in HTTP_STATUS else "INTERNAL", message)


def of_rpc(error: grpc.RpcError, model: str, health: Health) -> Refused:
    """Return the refusal for an error of a call to Triton."""
    return translate(error.code().name, error.details() or "", model, health)
