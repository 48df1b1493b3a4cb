"""The formats, precisions and targets there are, and which of them a server of a target needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tritone.errors import ConfigError

FORMATS = ("torchscript", "onnx", "tensorrt", "llm")
PRECISIONS = ("fp32", "fp16")
TARGETS = ("cpu", "gpu")
GENAI_PRECISIONS = ("int8", "int4", "fp32")
HUGGINGFACE = "huggingface"
LLM_FOLDERS = (*GENAI_PRECISIONS, HUGGINGFACE)


@dataclass(frozen=True)
class Selection:
    """The artifacts a command or a server asks for.

    Args:
        llm: the language model's weight precision for onnxruntime-genai, or "huggingface".
        platform: the kind of GPU that plans are built for, such as "sm89"; part of their identity.
    """

    formats: tuple[str, ...] = ("onnx", "llm")
    precisions: tuple[str, ...] = ("fp32",)
    llm: str = "int8"
    platform: str = ""

    def __post_init__(self) -> None:
        check("format", self.formats, FORMATS)
        check("precision", self.precisions, PRECISIONS)
        check("language model precision", (self.llm,), LLM_FOLDERS)


def for_target(target: str) -> Selection:
    """Return the selection that a server of the target loads."""
    check("target", (target,), TARGETS)
    return Selection() if target == "cpu" else Selection(("onnx", "tensorrt", "llm"), ("fp16",), HUGGINGFACE)


def check(what: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise ConfigError, listing the known names, unless all names are known."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")
