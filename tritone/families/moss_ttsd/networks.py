"""`load_networks`: tokenizer, language model and codec as torch networks, in the dtype and on the device asked for.

python -m tritone.families.moss_ttsd.networks DIR [--warm-up]     loads a checkpoint and prints what it contains

`tritone.load.load_model` loads what is served; this takes the arguments of the published `load_model`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem, TritoneError
from tritone.families.moss_ttsd.codec.checkpoint import load_codec
from tritone.families.moss_ttsd.codec.config import read_codec_config
from tritone.families.moss_ttsd.config import CODEC_WEIGHTS, CODEC_YAMLS, first_present
from tritone.families.moss_ttsd.lm.checkpoint import load_lm
from tritone.families.moss_ttsd.lm.choices import (
    ATTENTIONS,
    AUTO,
    DTYPES,
    resolve_attention,
    resolve_device,
    resolve_dtype,
)
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, read_lm_config

if TYPE_CHECKING:
    import torch

    from tritone.families.moss_ttsd.codec.network import XYTokenizer
    from tritone.families.moss_ttsd.lm.network import AsteroidLM


def load_networks(
    model_path: str | Path,
    spt_config_path: str | Path,
    spt_checkpoint_path: str | Path,
    torch_dtype: torch.dtype | str | None = None,
    attn_implementation: str | None = None,
    device: str | torch.device | None = None,
    warm_up: bool = False,
) -> tuple[Any, AsteroidLM, XYTokenizer]:
    """Return tokenizer, language model and codec, both networks in eval mode on `device`.

    The codec stays in float32, because small differences decide which vector its quantiser chooses.

    Args:
        model_path: folder of the language model and its tokenizer.
        spt_config_path: YAML of the codec.
        spt_checkpoint_path: weights of the codec, a file or a Hugging Face folder.
        torch_dtype: dtype of the language model, or its name; bfloat16 if None.
        attn_implementation: "flash_attention_2", "sdpa" or "eager"; the first of them that runs if None, with a
            warning that says what the faster ones lack.
        device: if None, "cuda" with a GPU and "cpu" without.
        warm_up: run both networks once on valid ids.

    Raises:
        ConfigError: an unknown dtype, attention or device, an attention that does not run here, or a configuration
            that cannot be read.
        CheckpointError: a path does not exist, tokenizer files are missing, or weights are damaged or do not fit.
        EnvironmentProblem: out of memory; the message says how to need less.
    """
    import torch

    place = resolve_device(device)
    dtype = resolve_dtype(torch_dtype, place.type)
    attention = resolve_attention(attn_implementation, str(place), dtype)
    folder = Path(model_path)
    if not folder.is_dir():
        raise CheckpointError(f"model_path {folder} is not a directory; give the language model's folder")
    tokenizer = _tokenizer(folder)
    config, codec_config = read_lm_config(folder), read_codec_config(Path(spt_config_path))
    if codec_config.channels != config.channels:
        raise ConfigError(
            f"the language model {folder} has {config.channels} channels and the codec {spt_config_path} "
            f"{codec_config.channels}; they do not belong together"
        )
    try:
        lm = load_lm(config, folder, dtype, attention).to(place)
        codec = load_codec(codec_config, Path(spt_checkpoint_path)).to(place)
        if warm_up:
            _warm_up(lm, codec, config)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EnvironmentProblem(
            f"{place} has too little memory for {folder} in {str(dtype).removeprefix('torch.')}: {error}. "
            f"Ask for torch_dtype='bfloat16' or another device, or free memory."
        ) from error
    return tokenizer, lm, codec


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
    """Run one row of speech through the language model and one code through the codec's decoder."""
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
    """Return a line on each of the tokenizer, the language model and the codec."""
    config, parameter = lm.config, next(lm.parameters())
    sizes = [sum(weight.numel() for weight in module.parameters()) / 1e6 for module in (lm, codec)]
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
    """Load a checkpoint, print what it contains, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tritone.families.moss_ttsd.networks",
        description="Load a checkpoint and print what it contains.",
    )
    parser.add_argument("model_path", type=Path, help="folder of the language model and its tokenizer")
    parser.add_argument(
        "--codec-config", type=Path, help=f"YAML of the codec (default: {', '.join(CODEC_YAMLS)} in that folder)"
    )
    parser.add_argument(
        "--codec-weights", type=Path, help=f"weights of the codec (default: {', '.join(CODEC_WEIGHTS)} in that folder)"
    )
    parser.add_argument(
        "--dtype", default="bfloat16", help=f"of the language model: {', '.join(DTYPES)} (default: %(default)s)"
    )
    parser.add_argument(
        "--attention", default=AUTO, help=f"{', '.join(ATTENTIONS)}, or the first that runs (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu or cuda (default: cuda with a GPU, cpu without)")
    parser.add_argument("--warm-up", action="store_true", help="run both networks once after loading")
    args = parser.parse_args(arguments)
    try:
        loaded = load_networks(
            args.model_path,
            args.codec_config or first_present(args.model_path, CODEC_YAMLS, "the codec's configuration"),
            args.codec_weights or first_present(args.model_path, CODEC_WEIGHTS, "the codec's weights"),
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
