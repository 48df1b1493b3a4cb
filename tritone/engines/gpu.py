"""The TensorRT package and the GPU of this machine, and the names of the platforms that plans are compiled for.

A platform is three words: package, version, target - "tensorrt 11.4.0 sm90", "tensorrt_rtx 1.7.1.116 sm89+sm120",
"tensorrt_rtx 1.7.1.116 portable" - and a fourth where sizes other than the declared ones were chosen. TensorRT compiles
for the GPU it runs on. TensorRT-RTX compiles on any machine, for listed compute capabilities or for all it serves by
default ("portable"), and finishes the work on the GPU.

torch is not imported: the CUDA driver is queried directly, which also works beside a CPU build of torch.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from typing import Any

from tritone.errors import ArtifactError, ConfigError, EnvironmentProblem

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"
PORTABLE = "portable"
PORTABLE_TARGETS, PORTABLE_FROM = (80, 86, 89), 120
"""Compute capabilities TensorRT-RTX serves by default, by NVIDIA's documentation: these, and all from 12.0 on."""
HOW_TO_INSTALL = (
    "Engines need tensorrt (from NVIDIA's index: pip install tensorrt --extra-index-url https://pypi.nvidia.com) or "
    "tensorrt_rtx (from PyPI: pip install tensorrt_rtx_cu13). The other formats do not need it"
)
MAJOR, MINOR = 75, 76
"""CUDA's numbers for the two halves of a device's compute capability."""


def backend() -> Any:
    """Return the module that builds and runs engines: `tensorrt`, else `tensorrt_rtx`; the same Python API.

    Raises:
        ArtifactError: neither can be imported; the message says where they come from.
    """
    problems = []
    for name in (TENSORRT, RTX):
        try:
            return importlib.import_module(name)
        except Exception as error:  # a package without its libraries raises whatever its loader raises
            problems.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    raise ArtifactError(f"no TensorRT here ({'; '.join(problems)}). {HOW_TO_INSTALL}")


def package(trt: Any) -> str:
    """Return name and version of a TensorRT module: "tensorrt_rtx 1.7.1.116"."""
    return f"{trt.__name__} {trt.__version__}"


def is_rtx(trt: Any) -> bool:
    """Return whether the module is TensorRT-RTX."""
    return str(trt.__name__) == RTX


def gpu(device: int = 0) -> str:
    """Return the GPU's architecture as "sm89"; empty without a driver or that device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    handle, numbers = ctypes.c_int(), []
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device):
        return ""
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle):
            return ""
        numbers.append(value.value)
    return f"sm{numbers[0]}{numbers[1]}"


def read_targets(text: str) -> tuple[str, ...]:
    """Return "8.9,12.0" as ("sm89", "sm120"); ConfigError unless it is a list of compute capabilities."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,2}\.\d", part) for part in parts):
        raise ConfigError(f'compute capability {text!r}; write "8.9", or several as "8.6,8.9"')
    return tuple(f"sm{part.replace('.', '')}" for part in parts)


def rtx_targets(trt: Any) -> list[str]:
    """Return the targets a TensorRT-RTX module can be asked for by name."""
    return [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]


def target_platform(compute_capability: str = "") -> str:
    """Return the platform that plans are built for.

    Args:
        compute_capability: "8.9", or several separated by commas; empty for this machine's GPU, or, without a GPU or
            if TensorRT-RTX has no target of its own for it, every GPU that TensorRT-RTX serves by default.

    Raises:
        ArtifactError: TensorRT is missing, or cannot build for this target here.
        ConfigError: not a compute capability.
    """
    trt, here = backend(), gpu()
    asked = read_targets(compute_capability) if compute_capability else ()
    if not is_rtx(trt):
        if not here:
            raise ArtifactError(
                f"{package(trt)} builds engines on the GPU that will run them and finds none here; run the same "
                "command on that machine, or install tensorrt_rtx_cu13 and remove tensorrt"
            )
        if asked and asked != (here,):
            raise ArtifactError(f"{package(trt)} builds for this machine's {here} alone, not for {compute_capability}")
        return f"{package(trt)} {here}"
    known = rtx_targets(trt)
    unknown = [target for target in asked if target not in known]
    if unknown:
        raise ArtifactError(f"{package(trt)} cannot build for {', '.join(unknown)}; it supports {', '.join(known)}")
    if not asked:
        asked = (here,) if here in known else (PORTABLE,)
    return f"{package(trt)} {'+'.join(asked)}"


def found_platform(device: int = 0) -> str:
    """Return the platform of this machine; EnvironmentProblem when it has no such GPU."""
    trt, here = backend(), gpu(device)
    if not here:
        raise EnvironmentProblem(
            f"engines run on an NVIDIA GPU and this machine has no CUDA device {device}; "
            "compare on the CPU with --formats onnx,torchscript instead"
        )
    return f"{package(trt)} {here}"


def mismatch(built: str, platform: str) -> str:
    """Return the reason why a plan of one platform cannot run on another, as the end of a sentence; empty if it can."""
    if len(built.split()) < 3:
        return f"does not say what it was built for (found {built or 'nothing'!r})"
    *package_built, target = built.split()[:3]
    *package_here, here = platform.split()
    number = int(here.removeprefix("sm"))
    served = target == PORTABLE and (number in PORTABLE_TARGETS or number >= PORTABLE_FROM)
    if package_built == package_here and (served or here in target.split("+")):
        return ""
    return (
        f"was built for {target} with {' '.join(package_built)}, this machine has {here} and {' '.join(package_here)}"
    )


def collector(trt: Any) -> Any:
    """Return a TensorRT logger that keeps the errors in `errors` and everything else in `notes` instead of printing."""

    class Collector(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.notes: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            serious = severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)
            (self.errors if serious else self.notes).append(message.strip())

        def problem(self) -> str:
            """Return the first error, which is the cause of the others; says so when TensorRT gave none."""
            return self.errors[0] if self.errors else "it gave no reason"

    return Collector()
