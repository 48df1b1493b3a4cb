"""The choices for torch networks of the language model: dtype, device, and the attention that runs there.

An attention counts as available only if it computes: the import of a compiled package can fail, and a package that is
imported can lack kernels for the GPU.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritone.errors import ConfigError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("flash_attention_2", "sdpa", "eager")
"""The fastest first."""
AUTO = "auto"
"""The first attention that is available."""
FLASH_VERSION = (2, 1)
"""The first release of flash-attn whose causal mask fits queries that continue a sequence."""


def resolve_dtype(asked: torch.dtype | str | None, device: str = "") -> torch.dtype:
    """Return a dtype given as such or by name, bfloat16 for None.

    Args:
        device: "cpu" gives a warning for float16, which processors compute slowly.

    Raises:
        ConfigError: it is not in `DTYPES`.
    """
    import torch

    name = "bfloat16" if asked is None else str(asked).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(f"torch_dtype {asked!r} is not supported; use one of {', '.join(DTYPES)}")
    if name == "float16" and device == "cpu":
        warnings.warn(
            "float16 on the CPU is computed slowly and overflows beyond 65504; use bfloat16, or float32", stacklevel=3
        )
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def resolve_device(asked: str | torch.device | None) -> torch.device:
    """Return the device, for None a GPU if there is one; ConfigError for an unknown or missing device."""
    import torch

    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise ConfigError(f"device {asked!r} is unknown to torch; use 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {asked!r}: this machine has no GPU that torch can use; use device='cpu'")
    return device


def resolve_attention(asked: str | None, device: str, dtype: torch.dtype) -> str:
    """Return the attention that runs on the device in this dtype.

    Args:
        asked: a name in `ATTENTIONS`; None or "auto" for the first available, with one warning that says what the
            faster ones lack.

    Raises:
        ConfigError: the name is unknown, or that attention is not available; the message lists those that are.
    """
    if asked not in (None, AUTO, *ATTENTIONS):
        raise ConfigError(f"attention {asked!r} is not supported; use one of {', '.join((*ATTENTIONS, AUTO))}")
    if asked not in (None, AUTO):
        assert asked is not None
        problem = missing(asked, device, dtype)
        if problem:
            available = [name for name in ATTENTIONS if name != asked and not missing(name, device, dtype)]
            raise ConfigError(f"{asked} needs {problem}; available here are {', '.join((*available, AUTO))}")
        return asked
    problems: list[str] = []
    for name in ATTENTIONS:
        problem = missing(name, device, dtype)
        if not problem:
            if problems:
                warnings.warn(f"{'; '.join(problems)}; using {name} instead", stacklevel=3)
            return name
        problems.append(f"{name} needs {problem}")
    raise ConfigError(f"no attention runs on {device} in {dtype}: {'; '.join(problems)}")


def missing(name: str, device: str, dtype: torch.dtype) -> str:
    """Return in words what an attention needs and this machine or dtype lacks; "" where it computes."""
    if name == "eager":
        return ""
    if name == "sdpa":
        return failure("torch's scaled_dot_product_attention", lambda: try_sdpa(device, dtype))
    needed = [f"a GPU (the device is {device})"] if device.partition(":")[0] != "cuda" else []
    if str(dtype) == "torch.float32":
        needed.append("bfloat16 or float16")
    package = failure("the package flash-attn", flash_function)
    if package:
        needed.append(package)
    if needed:
        return " and ".join(needed)
    return failure("flash-attn with kernels for this GPU", lambda: try_flash(device, dtype))


def failure(what: str, attempt: Callable[[], Any]) -> str:
    """Return "" if the attempt succeeds, otherwise what is needed and why it failed, whatever was raised."""
    try:
        attempt()
    except ModuleNotFoundError as error:
        return what if error.name == "flash_attn" else f"{what} ({error})"
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:200]
        return f"{what} ({type(error).__name__}: {reason})"
    return ""


def flash_function() -> Callable[..., Any]:
    """Return flash-attn's function; raises whatever its import raises, and ImportError for a release too old."""
    module = importlib.import_module("flash_attn")
    version = str(module.__version__)
    if tuple(int(part) for part in version.split(".")[:2]) < FLASH_VERSION:
        raise ImportError(f"{version} is installed; it must be {'.'.join(map(str, FLASH_VERSION))} or newer")
    function: Callable[..., Any] = module.flash_attn_func
    return function


def try_flash(device: str, dtype: torch.dtype) -> None:
    """Compute one key with flash-attn."""
    import torch

    one = torch.zeros(1, 1, 1, 64, device=device, dtype=dtype)
    flash_function()(one, one, one, causal=True)


def try_sdpa(device: str, dtype: torch.dtype) -> None:
    """Compute one key with torch's attention, with a bias as the networks give it."""
    import torch

    one = torch.zeros(1, 1, 1, 8, device=device, dtype=dtype)
    torch.nn.functional.scaled_dot_product_attention(one, one, one, attn_mask=one[..., :1])
