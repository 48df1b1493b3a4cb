"""A sentence in place of a traceback when a command is run by a Python without the packages it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
EXTRAS = {
    "serve": ("tritonclient", "google", "grpc", "geventhttpclient", "aiohttp", "prometheus_client", "onnxruntime",
              "onnxruntime_genai", "tokenizers", "gruut", "soxr", "soundfile", "tqdm", "safetensors"),
    "export": ("torch", "transformers", "onnx", "onnxscript"),
    "train": ("tensorboard", "matplotlib", "scipy", "numba"),
    "benchmark": ("pocketsphinx", "jiwer"),
    "": ("numpy", "yaml"),
}  # fmt: skip
"""The packages that commands import, by the extra that brings them; "" for those that every installation has."""


def sentence(error: ModuleNotFoundError) -> str:
    """Return a sentence on the missing package and what to run, or "" if the module is in no known package."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        return ""
    started = " ".join(sys.orig_argv[1:4])
    for part, own in (("client", "client"), ("training", "train"), ("benchmarks", "benchmark,train")):
        extra = own if extra and part in started else extra
    package = {"google": "protobuf", "yaml": "pyyaml"}.get(module, module)
    python = ROOT / ".venv" / "bin" / "python"
    named = f"[{extra}]" if extra else ""
    if not (ROOT / "pyproject.toml").is_file():
        remedy = f"run: pip install 'tritone{named}'"
    elif python.is_file() and Path(sys.prefix).resolve() != python.parents[1].resolve():
        remedy = f"use the checkout's own, {python} (or run: . {python.parent}/activate)"
    else:
        remedy = f"`make say` and `make test` make .venv with all packages; or run: pip install -e '{ROOT}{named}'"
    return f"the Python {sys.executable} has no package {package}, which this command needs; {remedy}"


def is_command() -> bool:
    """Return True if this package is imported by `python -m ...` of its own or by a script of its checkout."""
    name = next(iter(getattr(sys, "argv", [])), "")
    own = name.endswith(".py") and "site-packages" not in name and ROOT in Path(name).resolve().parents
    return name == "-m" or own


def explain() -> None:
    """Let a missing package end this process with a sentence; other errors are shown as before.

    A Python that is too old ends at once.
    """
    if sys.version_info < OLDEST:
        needed, found = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
        sys.exit(f"error: this needs Python {needed} or later; {sys.executable} is {found}")
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        said = sentence(error) if isinstance(error, ModuleNotFoundError) else ""
        if said:
            print(f"error: {said}", file=sys.stderr)
        else:
            shown(kind, error, trace)

    sys.excepthook = hook
