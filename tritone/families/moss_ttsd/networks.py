"""`load_model`: tokenizer, language model and codec of a checkpoint, ready to use, or an error that says what to do.

python -m tritone.families.moss_ttsd.load DIR [--warm-up]     loads it and prints what it is
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem, TritoneError
from tritone.families.moss_ttsd.checkpoint import CODEC_WEIGHTS, CODEC_YAMLS, one_of
from tritone.families.moss_ttsd.codec.checkpoint import load_codec
from tritone.families.moss_ttsd.codec.config import read_codec_config
from tritone.families.moss_ttsd.lm.checkpoint import load_lm
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, read_lm_config

if TYPE_CHECKING:
    import torch

    from tritone.families.moss_ttsd.codec.network import XYTokenizer
    from tritone.families.moss_ttsd.lm.network import AsteroidLM

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("flash_attention_2", "sdpa", "eager")
"""The fastest first; what cannot run here falls back to the next."""


def load_model(
    model_path: str | Path,
    spt_config_path: str | Path,
    spt_checkpoint_path: str | Path,
    torch_dtype: torch.dtype | str | None = None,
    attn_implementation: str = "flash_attention_2",
    device: str | torch.device | None = None,
    warm_up: bool = False,
) -> tuple[Any, AsteroidLM, XYTokenizer]:
    """(tokenizer, language model, codec), both networks in eval mode on `device`.

    The codec stays in float32: its quantiser tells neighbours apart by small differences.

    Args:
        model_path: folder of the language model and its tokenizer.
        spt_config_path: YAML of the codec. spt_checkpoint_path: its weights, a file or a Hugging Face folder.
        torch_dtype: of the language model, bfloat16 if None; also by name.
        attn_implementation: "flash_attention_2", "sdpa" or "eager"; one that cannot run here is replaced by the next,
            with one warning.
        device: "cuda" where there is a GPU, if None, else "cpu".
        warm_up: run both networks once on valid ids.

    Raises:
        ConfigError: an unknown dtype, attention or device, or a configuration that cannot be read.
        CheckpointError: a path does not exist, tokenizer files are missing, or weights are damaged or do not fit.
        EnvironmentProblem: memory ran out; the message says what to ask for instead.
    """
    import torch

    dtype = find_dtype(torch_dtype)
    where = find_device(device)
    attention = find_attention(attn_implementation, where.type, dtype)
    folder = Path(model_path)
    if not folder.is_dir():
        raise CheckpointError(f"model_path {folder} is not a directory; give the language model's folder")
    tokenizer = _tokenizer(folder)
    config, codec_config = read_lm_config(folder), read_codec_config(Path(spt_config_path))
    if codec_config.channels != config.channels:
        raise ConfigError(
            f"the language model {folder} speaks {config.channels} channels and the codec {spt_config_path} "
            f"{codec_config.channels}; they do not belong together"
        )
    try:
        lm = load_lm(config, folder, dtype, attention).to(where)
        codec = load_codec(codec_config, Path(spt_checkpoint_path)).to(where)
        if warm_up:
            _warm_up(lm, codec, config)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EnvironmentProblem(
            f"{where} has too little memory for {folder} in {str(dtype).removeprefix('torch.')}: {error}. "
            f"Ask for torch_dtype='bfloat16', another device, or free what else is there."
        ) from error
    return tokenizer, lm, codec


def find_dtype(asked: torch.dtype | str | None) -> torch.dtype:
    """Return the dtype by itself or by name, bfloat16 for None; ConfigError for what the model cannot be in."""
    import torch

    name = "bfloat16" if asked is None else str(asked).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(f"torch_dtype {asked!r}; there are {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def find_device(asked: str | torch.device | None) -> torch.device:
    """Return the device, a GPU if there is one for None; ConfigError for one that is not there."""
    import torch

    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise ConfigError(f"device {asked!r} is none that torch knows; use 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {asked!r}: this machine has no GPU that torch can use; use device='cpu'")
    return device


def find_attention(asked: str, device: str, dtype: torch.dtype) -> str:
    """Return the implementation asked for, or with one warning the next that can run."""
    if asked not in ATTENTIONS:
        raise ConfigError(f"attn_implementation {asked!r}; there are {', '.join(ATTENTIONS)}")
    why = _why_no_flash(device, dtype) if asked == "flash_attention_2" else []
    if not why:
        return asked
    following = ATTENTIONS[ATTENTIONS.index(asked) + 1]
    warnings.warn(f"{asked} needs {' and '.join(why)}; using {following} instead", stacklevel=3)
    return following


def _why_no_flash(device: str, dtype: torch.dtype) -> list[str]:
    """What flash attention lacks, in words."""
    lacking = []
    if device != "cuda":
        lacking.append(f"a GPU (the device is {device})")
    if str(dtype) == "torch.float32":
        lacking.append("bfloat16 or float16")
    if importlib.util.find_spec("flash_attn") is None:
        lacking.append("the package flash-attn")
    return lacking


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        present = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise CheckpointError(
            f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt; it has {present}"
        )
    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from error


def _warm_up(lm: AsteroidLM, codec: XYTokenizer, config: AsteroidConfig) -> None:
    """One row of speech through the language model, one code through the decoder."""
    import torch

    from tritone.families.moss_ttsd.codec.network import Decoder, Vocoder

    device = next(lm.parameters()).device
    rows = torch.tensor([config.speech_tokens[0], *[0] * config.delay], device=device)[None, None]
    with torch.inference_mode():
        lm(rows)
        codes = torch.zeros(1, config.channels, 1, dtype=torch.int64, device=device)
        frames = Decoder(codec)(codes, torch.ones(1, dtype=torch.int32, device=device))
        Vocoder(codec)(frames, torch.full((1,), frames.shape[2], dtype=torch.int32, device=device))


def summary(tokenizer: Any, lm: AsteroidLM, codec: XYTokenizer) -> str:
    """What was loaded, a line each."""
    config, parameter = lm.config, next(lm.parameters())
    sizes = [sum(one.numel() for one in module.parameters()) / 1e6 for module in (lm, codec)]
    attention = lm.model.language_model.config._attn_implementation
    return (
        f"tokenizer: {len(tokenizer)} ids\n"
        f"language model: {config.num_hidden_layers} layers of {config.hidden_size}, {config.channels} channels, "
        f"{sizes[0]:.1f} M weights in {str(parameter.dtype).removeprefix('torch.')} on {parameter.device}, "
        f"{attention}\n"
        f"codec: {codec.config.sample_rate} Hz, {codec.config.channels} x {codec.config.codebook[0]} codes at "
        f"{16000 / codec.config.code_samples:g} Hz, {sizes[1]:.1f} M weights in float32"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Load and print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tritone.families.moss_ttsd.load", description="Load a checkpoint and say what it is."
    )
    parser.add_argument("model_path", type=Path, help="folder of the language model and its tokenizer")
    parser.add_argument("--codec-config", type=Path, help=f"YAML (default: in that folder, {', '.join(CODEC_YAMLS)})")
    parser.add_argument("--codec-weights", type=Path, help=f"(default: in that folder, {', '.join(CODEC_WEIGHTS)})")
    parser.add_argument("--dtype", default="bfloat16", help=f"{', '.join(DTYPES)} (default: %(default)s)")
    parser.add_argument("--attention", default=ATTENTIONS[0], help=f"{', '.join(ATTENTIONS)} (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU if there is one)")
    parser.add_argument("--warm-up", action="store_true", help="run both networks once")
    args = parser.parse_args(arguments)
    try:
        loaded = load_model(
            args.model_path,
            args.codec_config or one_of(args.model_path, CODEC_YAMLS, "the codec's configuration"),
            args.codec_weights or one_of(args.model_path, CODEC_WEIGHTS, "the codec's weights"),
            args.dtype,
            args.attention,
            args.device,
            args.warm_up,
        )
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(*loaded))
    return 0


if __name__ == "__main__":
    sys.exit(main())
