"""A row of a ragged batch is what it would be alone, whatever its padding holds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.bert_vits2.tiny import arrays, cut, peak_error, tiny_config, tiny_generator, tiny_text
from torch import Tensor

from tritone.families.bert_vits2.config import BertVits2Config
from tritone.families.bert_vits2.networks.coupling import Flow
from tritone.families.bert_vits2.networks.generator import Draw, Generator, Text
from tritone.families.bert_vits2.networks.relative_attention import RelativeAttention
from tritone.nn.stft import length_mask
from tritone.nn.weight_norm import fold_weight_norm

SAME = 2e-5


def dirty(text: Text) -> Text:
    """Return the batch with wild values in its padding."""
    inside = length_mask(text.lengths, text.bert) > 0
    x, tone, language = (torch.where(inside[:, 0], ids, 2) for ids in (text.x, text.tone, text.language))
    return Text(x, text.lengths, tone, language, *(torch.where(inside, stream, 1e3) for stream in text[4:]))


@pytest.mark.parametrize("sdp_ratio", [0.0, 0.7])
@torch.inference_mode()
def test_utterances_of_a_batch_equal_single_ones(sdp_ratio: float) -> None:
    generator, text = fold_weight_norm(tiny_generator()), dirty(tiny_text())
    g = generator.speaker(arrays("stages")["sid"])
    torch.manual_seed(0)
    duration_noise, prior_noise = torch.randn(2, 2, 13), torch.randn(2, 8, 400)

    def draws(row: slice, phones: int) -> Draw:
        return lambda shape: duration_noise[row, :, :phones] if shape[1] == 2 else prior_noise[row, :, : shape[2]]

    batch = generator.infer(text, g, draws(slice(0, 2), 13), sdp_ratio=sdp_ratio, length_scale=1.7)
    assert len(set(batch.samples.tolist())) == 2
    for row in range(2):
        length = int(text.lengths[row])
        alone = generator.infer(
            cut(text, row), g[row : row + 1], draws(slice(row, row + 1), length), sdp_ratio=sdp_ratio, length_scale=1.7
        )
        samples = int(batch.samples[row])
        assert torch.equal(alone.duration[0, :, :length], batch.duration[row, :, :length])
        assert alone.waveform.shape[2] == samples
        assert peak_error(batch.waveform[row, :, :samples], alone.waveform[0]) <= SAME
        assert (batch.waveform[row, :, samples:] == 0).all()


@torch.inference_mode()
def test_spectra_of_a_batch_equal_single_ones() -> None:
    generator, known = tiny_generator(), arrays("stages")
    g, lengths = known["g"], known["y_lengths"]
    mask = length_mask(lengths, known["spec"])
    spec = torch.where(mask > 0, known["spec"], 50.0)
    z, *_ = generator.enc_q(spec, mask, g, known["encq_noise0_n"])
    z_p = generator.flow.to_prior(z, mask, g)
    short = int(lengths[1])
    assert short < spec.shape[2]
    one = torch.ones(1, 1, short)
    alone, *_ = generator.enc_q(spec[1:, :, :short], one, g[1:], known["encq_noise0_n"][1:, :, :short])
    assert peak_error(z[1:, :, :short], alone) <= SAME
    assert peak_error(z_p[1:, :, :short], generator.flow.to_prior(alone, one, g[1:])) <= SAME


@pytest.mark.parametrize("short", [1, 17, 63, 64, 65, 130])
@torch.inference_mode()
def test_a_heard_speaker_does_not_depend_on_padding(short: int) -> None:
    config = tiny_config()
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, n_speakers=0))
    torch.manual_seed(0)
    generator, spec = Generator(config, posterior=False).eval(), torch.rand(2, 65, 140)
    spec[1, :, short:] = 9.0
    both = generator.speaker_of(spec, torch.tensor([140, short]))
    assert both.shape == (2, 12, 1)
    assert peak_error(both[1:], generator.speaker_of(spec[1:, :, :short], torch.tensor([short]))) <= SAME
    assert peak_error(both[1:], both[:1]) > 1e-3


@pytest.mark.parametrize("transformer", [True, False])
@torch.inference_mode()
def test_both_flows_invert_and_keep_rows_apart(transformer: bool) -> None:
    flow = random_flow(tiny_config(), transformer)
    x, g = torch.randn(2, 8, 30), torch.randn(2, 12, 1)
    mask = length_mask(torch.tensor([30, 11]), x)
    there = flow.to_prior(x * mask, mask, g)
    assert peak_error(there, x * mask) > 1e-2
    assert peak_error(flow(there, mask, g), x * mask) <= SAME
    alone = flow(there[1:, :, :11], torch.ones(1, 1, 11), g[1:])
    assert peak_error(flow(there, mask, g)[1:, :, :11], alone) <= SAME


def random_flow(config: BertVits2Config, transformer: bool) -> Flow:
    """Return a flow of either kind that has been trained, in so far as it is not the identity any more."""
    torch.manual_seed(0)
    flow = Flow(dataclasses.replace(config.model, use_transformer_flow=transformer)).eval()
    keys = {key.split(".")[3] for key in flow.state_dict() if ".enc." in key}
    assert keys >= ({"attn_layers", "ffn_layers"} if transformer else {"in_layers", "cond_layer"})
    for name, parameter in flow.named_parameters():
        if ".post." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return flow


@pytest.mark.parametrize("frames", [1, 3, 5, 9, 20])
@torch.inference_mode()
def test_relative_attention_is_what_the_paper_writes(frames: int) -> None:
    torch.manual_seed(0)
    attention, x = RelativeAttention(8, 2, 0.0), torch.randn(2, 8, frames)
    query, key, value = (
        conv(x).reshape(2, 2, 4, frames) for conv in (attention.conv_q, attention.conv_k, attention.conv_v)
    )
    scores, attended = torch.zeros(2, 2, frames, frames), torch.zeros(2, 2, 4, frames)

    def at(table: Tensor, distance: int) -> Tensor:
        return table[0, distance + 4] if abs(distance) <= 4 else torch.zeros(4)

    for i in range(frames):
        for j in range(frames):
            keyed = key[..., j] + at(attention.emb_rel_k, j - i)
            scores[:, :, i, j] = (query[..., i] * keyed).sum(dim=-1) / 2
    weights = scores.softmax(dim=-1)
    for i in range(frames):
        for j in range(frames):
            attended[..., i] += weights[:, :, i, j, None] * (value[..., j] + at(attention.emb_rel_v, j - i))
    expected = attention.conv_o(attended.reshape(2, 8, frames))
    assert peak_error(attention(x, torch.ones(2, 1, frames, frames)), expected) <= SAME
