"""Settings that a YAML states more than once, or that follow from each other, and must therefore agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig

ADVICE = "Restore the values the checkpoint was published with; a network works at the sizes it was trained at only."


def check_settings(config: CosyVoiceConfig, path: Path) -> None:
    """Raise CheckpointError with the keys and values that contradict each other; `path` is the YAML's, for messages."""
    flow, hift, mel = config.flow, config.hift, config.mel
    rates = {
        "sample_rate": config.sample_rate,
        "hift.sampling_rate": hift.sample_rate,
        "feat_extractor.sampling_rate": mel.sample_rate,
    }
    check_equal(path, "the sample rate", rates)
    hops = {"feat_extractor.hop_size": mel.hop, "hift (upsample_rates times istft_params.hop_len)": hift.hop}
    check_equal(path, "the samples per mel frame", hops)
    bands = {
        "feat_extractor.num_mels": mel.num_mels,
        "flow.output_size": flow.output_size,
        "hift.in_channels": hift.in_channels,
    }
    check_equal(path, "the number of mel bands", bands)
    codes = {"llm.speech_token_size": config.lm.speech_token_size, "flow.vocab_size": flow.vocab_size}
    check_equal(path, "the number of speech codes", codes)
    seconds = flow.token_frame_rate * flow.token_mel_ratio * mel.hop
    if seconds not in (0, config.sample_rate):  # 0: frames are no multiple of tokens
        raise CheckpointError(
            f"{path}: input_frame_rate {flow.token_frame_rate} x token_mel_ratio {flow.token_mel_ratio} x hop_size "
            f"{mel.hop} are {seconds} samples a second, but sample_rate is {config.sample_rate}. {ADVICE}"
        )


def check_equal(path: Path, subject: str, values: Mapping[str, int]) -> None:
    """Raise CheckpointError unless all keys have the same value."""
    if len(set(values.values())) > 1:
        stated = ", ".join(f"{key} is {value}" for key, value in values.items())
        raise CheckpointError(f"{path} contradicts itself about {subject}: {stated}; all must be equal. {ADVICE}")
