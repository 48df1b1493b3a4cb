"""Combinations of values in a Bert-VITS2 configuration that the published networks cannot have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritone.families.bert_vits2.config import DataConfig, ModelConfig

SPEAKER_LAYER = 2
"""Index of the transformer layer before which the speaker is added."""
Check = tuple[bool, str]
"""Whether a condition holds, and the message if it does not."""


def contradiction(model: ModelConfig, data: DataConfig) -> str:
    """Return the first problem of a configuration that the networks cannot have, or ""."""
    checks = [*_decoder_checks(model, data), *_encoder_checks(model), *_data_checks(data)]
    return next((message for holds, message in checks if not holds), "")


def _decoder_checks(model: ModelConfig, data: DataConfig) -> list[Check]:
    hop, kernels, rates = math.prod(model.upsample_rates), model.upsample_kernel_sizes, model.upsample_rates
    blocks, dilations = len(model.resblock_kernel_sizes), len(model.resblock_dilation_sizes)
    return [
        (hop == data.hop_length, f"upsample_rates multiply to {hop}, but data.hop_length is {data.hop_length}"),
        (len(rates) == len(kernels), f"there are {len(rates)} upsample_rates, {len(kernels)} upsample_kernel_sizes"),
        (
            all(k >= r and (k - r) % 2 == 0 for k, r in zip(kernels, rates, strict=False)),
            f"upsample_kernel_sizes {kernels} must exceed upsample_rates {rates} by even numbers",
        ),
        (blocks == dilations, f"there are {blocks} resblock_kernel_sizes, {dilations} resblock_dilation_sizes"),
        (model.resblock == "1", f"model.resblock is {model.resblock!r}; versions 2.0 to 2.3 have '1' only"),
        (
            model.upsample_initial_channel % 2 ** len(rates) == 0,
            f"upsample_initial_channel {model.upsample_initial_channel} cannot be halved at every upsample_rate",
        ),
    ]


def _encoder_checks(model: ModelConfig) -> list[Check]:
    return [
        (
            model.hidden_channels % max(model.n_heads, 1) == 0,
            f"hidden_channels {model.hidden_channels} is not a multiple of n_heads {model.n_heads}",
        ),
        (model.inter_channels % 2 == 0, f"inter_channels {model.inter_channels} cannot be halved by the flow"),
        (
            model.n_layers > SPEAKER_LAYER
            and (model.n_layers_trans_flow > SPEAKER_LAYER or not model.use_transformer_flow),
            f"n_layers is {model.n_layers} and n_layers_trans_flow {model.n_layers_trans_flow}, but the speaker is "
            f"added before the third layer",
        ),
        (
            model.use_spk_conditioned_encoder and model.gin_channels > 0,
            "use_spk_conditioned_encoder false or gin_channels 0; the published networks have a speaker in the encoder",
        ),
        (
            not model.flow_share_parameter,
            "flow_share_parameter true; the published code crashes on it, so no checkpoint has it",
        ),
        (not model.use_mel_posterior_encoder, "use_mel_posterior_encoder true; the posterior takes linear spectra"),
    ]


def _data_checks(data: DataConfig) -> list[Check]:
    nyquist = data.sampling_rate / 2
    return [
        (
            data.win_length <= data.filter_length,
            f"win_length {data.win_length} is longer than filter_length {data.filter_length}",
        ),
        (
            data.mel_fmin < (data.mel_fmax or nyquist) <= nyquist,
            f"mel_fmin {data.mel_fmin} and mel_fmax {data.mel_fmax} are not a range below {nyquist} Hz",
        ),
        (
            data.n_speakers == 0 or all(0 <= row < data.n_speakers for row in data.spk2id.values()),
            f"spk2id goes up to {max(data.spk2id.values(), default=0)}, but n_speakers is {data.n_speakers}",
        ),
    ]
