"""The tiny discriminators and WavLM behind the golden numbers of Bert-VITS2's training."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from support.key_weights import key_state, key_values
from training.bert_vits2.networks.duration_discriminator import DurationDiscriminator
from training.bert_vits2.networks.waveform_discriminators import ConvJudge, Judgement, MultiPeriodDiscriminator
from training.bert_vits2.networks.wavlm_discriminator import WavLM, WavLMDiscriminator

RATE = 44100
WAVLM = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 32,
    "max_bucket_distance": 80,
}

Module = TypeVar("Module", bound=nn.Module)


def waves() -> MultiPeriodDiscriminator:
    return _filled(MultiPeriodDiscriminator(), "D.")


class OneJudge(MultiPeriodDiscriminator):
    """A cheap wave discriminator, for steps whose numbers do not matter."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.discriminators = nn.ModuleList([ConvJudge([nn.Conv1d(1, 4, 15, 4, 7)], nn.Conv1d(4, 1, 3, 1, 1))])

    def forward(self, wave: Tensor) -> Judgement:
        scores, layers = self.discriminators[0](wave[:, None])
        return [scores], [layers]


def durations() -> DurationDiscriminator:
    return _filled(DurationDiscriminator(8, 8, 12, dropout=0.0), "DUR.")


def wavlm_judge() -> WavLMDiscriminator:
    return _filled(WavLMDiscriminator(32, 4, 4), "WD.")


def wavlm_model() -> nn.Module:
    from transformers import WavLMConfig, WavLMModel

    model = WavLMModel(WavLMConfig(**WAVLM))
    state = model.state_dict()
    values = {k: torch.from_numpy(key_values(k, tuple(v.shape), "wavlm.")) for k, v in state.items()}
    model.load_state_dict(values | {"masked_spec_embed": state["masked_spec_embed"]})
    return model


def wavlm() -> WavLM:
    return WavLM(wavlm_model(), RATE)


def _filled(network: Module, prefix: str) -> Module:
    network.load_state_dict(key_state(network.state_dict(), prefix), strict=True)
    return network
