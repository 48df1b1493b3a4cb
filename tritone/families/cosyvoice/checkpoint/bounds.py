"""The bounds of the sizes in a CosyVoice YAML, by field of the configuration; widths have the usual one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritone.checkpoint.sizes import HEADS, KERNEL, LAYERS, RATE, VOCABULARY, WINDOW, Bound, check_fields, whole
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig

FRAMES = Bound(0, 4096)
BANDS = Bound(1, 512)
LEFT = Bound(-(1 << 20), 1 << 20)
"""Chunks to attend to; a negative number is all of them."""
BOUNDS: Mapping[str, Bound] = {
    **dict.fromkeys(("num_blocks", "n_blocks", "depth"), LAYERS),
    **dict.fromkeys(("num_mid_blocks", "num_up_blocks"), Bound(0, LAYERS.hi)),
    **dict.fromkeys(("attention_heads", "num_heads"), HEADS),
    **dict.fromkeys(("left_chunks", "stream_left_chunks"), LEFT),
    **dict.fromkeys(("chunk_size", "pre_lookahead_len", "look_right"), FRAMES),
    **dict.fromkeys(("num_mels", "output_size", "mel_channels"), BANDS),
    **dict.fromkeys(("n_fft", "win", "hop", "istft_n_fft", "istft_hop"), WINDOW),
    **dict.fromkeys(("speech_token_size", "vocab_size", "text_token_size"), VOCABULARY),
    **dict.fromkeys(("sample_rate",), RATE),
    **dict.fromkeys(("upsample_rates", "upsample_kernel_sizes"), KERNEL),
    **dict.fromkeys(("resblock_kernel_sizes", "source_resblock_kernel_sizes"), KERNEL),
    **dict.fromkeys(("resblock_dilation_sizes", "source_resblock_dilation_sizes"), KERNEL),
    "extra_ids": Bound(0, 4096),
    "f0_channels": Bound(1, 2048),
    "ff_mult": Bound(1, 64),
    "mix_ratio": Bound(1, 4096),
    "nb_harmonics": Bound(0, 256),
    "noise_offset": Bound(0, 1 << 31),
    "sampling_ratios": Bound(1, 64),
    "spk_embed_dim": Bound(0, 8192),
    "steps": Bound(1, 1000),
    "token_frame_rate": Bound(1, 1000),
    "token_mel_ratio": Bound(0, 64),
    "top_k": Bound(0, VOCABULARY.hi),
    "win_size": Bound(0, 1 << 20),
}


def check_bounds(config: CosyVoiceConfig, path: Path) -> None:
    """Raise CheckpointError with the key of a number that no network has; `path` is the YAML's, for messages."""
    layout = config.version.layout
    names = {**layout.extensions, **layout.keys}
    whole(config.sample_rate, f"{path}: sample_rate", RATE, CheckpointError)
    for part in ("lm", "flow", "hift", "mel"):
        check_fields(getattr(config, part), BOUNDS, names, str(path), CheckpointError, f"{part}.")
