"""Two adversarial steps against the published numbers, and what a step does without parts, in half, and frozen."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from support.bert_vits2 import judges
from support.bert_vits2.tiny import FOLDER, arrays, tiny_config, tiny_generator, tiny_text
from torch import nn

from training.bert_vits2.config import TrainConfig
from training.bert_vits2.data.batch import Batch, draw_noise, text_of
from training.bert_vits2.gan_step import Players, gan_step, loss_scaler, mel_of
from tritone.errors import ConfigError
from tritone.families.bert_vits2.networks.generator import TrainingNoise
from tritone.nn.weight_norm import older_layout

TRAIN = TrainConfig(segment_size=4096, clip_g=0.0, clip_d=0.0)
LOSSES = {
    "D/loss": "loss_disc",
    "DUR/loss": "loss_dur_disc",
    "WD/loss": "loss_slm",
    "G/loss": "total",
    "G/adversarial": "loss_gen",
    "G/features": "loss_fm",
    "G/mel": "loss_mel",
    "G/duration": "loss_dur",
    "G/kl": "loss_kl",
    "G/wavlm": "loss_lm",
    "G/wavlm_adversarial": "loss_lm_gen",
    "G/duration_adversarial": "loss_dur_gen",
}
NORMS = {"G/norm": "gn_g", "D/norm": "gn_d", "WD/norm": "gn_wd", "DUR/norm": "gn_dur"}
NAMES = ("noise0_n", "noise1_n", "noise2_n", "noise3_n", "noise4_u")


def batch(rows: int = 2) -> Batch:
    passed, text = arrays("training_pass"), tiny_text()
    whole = Batch(
        phones=text.x,
        phone_lengths=text.lengths,
        tones=text.tone,
        languages=text.language,
        bert=text.bert,
        ja_bert=text.ja_bert,
        en_bert=text.en_bert,
        speaker=arrays("stages")["sid"],
        spectrogram=passed["spec"],
        frames=passed["spec_lengths"],
        wave=arrays("train_step")["wav"],
    )
    return Batch(**{f.name: getattr(whole, f.name)[:rows] for f in fields(Batch)})


def players(full: bool = False, durations: bool = True, wavlm: bool = True, rate: float = 2e-4) -> Players:
    """Everyone; judges of waves, which take most of a step's time, only in their real size if `full`."""
    torch.manual_seed(0)
    networks: dict[str, Any] = {"G": tiny_generator().train(), "D": judges.waves() if full else judges.OneJudge()}
    if durations:
        networks["DUR"] = judges.durations()
    if wavlm:
        networks["WD"] = judges.wavlm_judge()
    optimizers = {
        name: torch.optim.AdamW(network.parameters(), rate, betas=(0.8, 0.99), eps=1e-9)
        for name, network in networks.items()
    }
    return Players(networks["G"], networks["D"], optimizers, mel_of(tiny_config().data), networks.get("DUR"),
                   judges.wavlm() if wavlm else None, networks.get("WD"))  # fmt: skip


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def moved(network: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}


def test_two_steps_are_the_published_ones() -> None:
    golden, passed = arrays("train_step"), arrays("training_pass")
    everyone = players(full=True)
    train = replace(TRAIN, duration_loss="published")
    noises = [TrainingNoise(*(passed[n] for n in NAMES)), TrainingNoise(*(golden[f"s1_{n}"] for n in NAMES))]
    for number, noise in enumerate(noises):
        found = gan_step(everyone, batch(), number, train, noise)
        assert set(found) == set(LOSSES) | set(NORMS)
        for ours, theirs in LOSSES.items():
            assert found[ours] == pytest.approx(float(golden[f"s{number}_{theirs}"]), rel=1e-3), (number, ours)
        for ours, theirs in NORMS.items():
            assert found[ours] == pytest.approx(float(golden[f"s{number}_{theirs}"]), rel=1e-2), (number, ours)
    published = json.loads(gzip.decompress((FOLDER / "train_step_weights.json.gz").read_bytes()))
    for name, network in everyone.networks().items():
        state = older_layout(network.state_dict())
        assert state.keys() == published[name].keys()
        for key, (total, norm) in published[name].items():
            found, count = state[key].double(), state[key].numel()
            # Softmax hides a key's bias but for its relative positions: what little gradient is left, Adam makes whole
            # steps of, in whichever direction rounding points.
            slack = 2 * 2 * 2e-4 * count if key.endswith("conv_k.bias") else 1e-4 * math.sqrt(count)
            assert float(found.norm()) == pytest.approx(norm, rel=1e-5, abs=slack / math.sqrt(count)), (name, key)
            assert float(found.sum()) == pytest.approx(total, rel=1e-5, abs=slack), (name, key)


def test_the_fixed_duration_loss_is_the_default_and_another_one() -> None:
    assert TRAIN.duration_loss == "fixed"
    noise = draw_noise(batch(), 8)
    fixed = gan_step(players(), batch(), 0, TRAIN, noise)
    published = gan_step(players(), batch(), 0, replace(TRAIN, duration_loss="published"), noise)
    differing = {name for name in fixed if fixed[name] != pytest.approx(published[name], rel=1e-6)}
    assert differing == {"DUR/loss", "DUR/norm", "G/duration_adversarial", "G/loss", "G/norm"}


@pytest.mark.parametrize(("durations", "wavlm"), [(False, True), (True, False), (False, False)])
def test_judges_of_durations_and_wavlm_may_be_absent(durations: bool, wavlm: bool) -> None:
    everyone = players(durations=durations, wavlm=wavlm)
    found = gan_step(everyone, batch(), 0, TRAIN)
    absent = {"DUR/loss", "DUR/norm", "G/duration_adversarial"} if not durations else set()
    absent |= {"WD/loss", "WD/norm", "G/wavlm", "G/wavlm_adversarial"} if not wavlm else set()
    assert set(found) == (set(LOSSES) | set(NORMS)) - absent
    assert all(math.isfinite(value) for value in found.values())
    parts = [value for name, value in found.items() if name.startswith("G/") and name not in ("G/loss", "G/norm")]
    assert found["G/loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_waves_are_judged_from_the_given_step_on() -> None:
    found, train = players(wavlm=False), replace(TRAIN, judged_from=3)
    before = weights(found.networks()["D"])
    scalars = gan_step(found, batch(), 2, train)
    assert not {"D/loss", "D/norm", "G/adversarial", "G/features"} & set(scalars) and scalars["G/mel"] > 0
    assert all(torch.equal(value, before[name]) for name, value in weights(found.networks()["D"]).items())
    assert {"D/loss", "D/norm", "G/adversarial", "G/features"} <= set(gan_step(found, batch(), 3, train))
    assert any(not torch.equal(value, before[name]) for name, value in weights(found.networks()["D"]).items())


def test_a_batch_of_one_trains_every_network() -> None:
    everyone = players()
    before = {name: weights(network) for name, network in everyone.networks().items()}
    found = gan_step(everyone, batch(1), 0, TRAIN)
    assert all(math.isfinite(value) for value in found.values())
    assert all(moved(network, before[name]) for name, network in everyone.networks().items())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_only_fp16_is_scaled(precision: str) -> None:
    device = torch.device("cpu")
    torch.manual_seed(0)
    noise = draw_noise(batch(), 8)
    exact = gan_step(players(), batch(), 0, TRAIN, noise)
    scaler = loss_scaler(precision, device)
    assert (scaler is not None) == (precision == "fp16") and loss_scaler("fp32", device) is None
    if scaler is not None:
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)  # where a run arrives after a few skipped steps
    everyone = replace(players(), scaler=scaler)
    before = weights(everyone.generator)
    found = gan_step(everyone, batch(), 0, replace(TRAIN, precision=precision), noise)
    for name in LOSSES:
        assert found[name] == pytest.approx(exact[name], rel=0.05, abs=0.02), name
    for name in NORMS:
        # The splines of random durations magnify what bfloat16 rounds before them.
        bound = 3.0 if (precision, name) == ("bf16", "G/norm") else 0.1
        assert found[name] == pytest.approx(exact[name], rel=bound), name
        assert found[name] > 0
    assert moved(everyone.generator, before)
    assert all(p.dtype == torch.float32 for p in everyone.generator.parameters())


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    everyone = replace(players(), scaler=scaler)
    before = weights(everyone.generator)
    gan_step(everyone, batch(), 0, replace(TRAIN, precision="fp16"))
    assert not moved(everyone.generator, before)
    assert scaler.get_scale() == 2.0**119


def test_frozen_parameters_stay_and_the_rest_goes_on() -> None:
    everyone = players()
    judge = everyone.waves
    frozen = {"discriminators.0.convs.0.bias"}
    for name, parameter in judge.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for _, parameter in everyone.generator.enc_p.named_parameters():
        parameter.requires_grad_(False)
    before, text = weights(judge), weights(everyone.generator.enc_p)
    gan_step(everyone, batch(), 0, TRAIN)
    assert moved(judge, before) == set(before) - frozen
    assert moved(everyone.generator.enc_p, text) == set()
    assert [p.requires_grad for p in judge.parameters()].count(False) == len(frozen)


def test_each_network_is_clipped_to_its_own_norm() -> None:
    limits = {"G": 0.5, "D": 0.25, "WD": 0.125, "DUR": 0.0625}
    everyone = players()
    plain = {name: torch.optim.SGD(network.parameters(), 1.0) for name, network in everyone.networks().items()}
    before = {name: weights(network) for name, network in everyone.networks().items()}
    train = replace(TRAIN, **{f"clip_{name.lower()}": limit for name, limit in limits.items()})
    found = gan_step(replace(everyone, optimizers=plain), batch(), 0, train)
    for name, network in everyone.networks().items():
        distance = math.sqrt(
            sum(float((p.detach() - before[name][n]).square().sum()) for n, p in network.named_parameters())
        )
        assert found[f"{name}/norm"] > limits[name]
        assert distance == pytest.approx(limits[name], rel=1e-2), name


def test_the_same_seed_gives_the_same_step() -> None:
    def one(seed: int) -> dict[str, float]:
        everyone = players(wavlm=False)
        torch.manual_seed(seed)
        return gan_step(everyone, batch(), 7, TRAIN)

    assert one(1) == one(1) != one(2)


def test_noise_has_the_shapes_of_its_batch() -> None:
    noise = draw_noise(batch(), 8)
    shapes = [tuple(drawn.shape) for drawn in noise if drawn is not None]
    assert shapes == [(2, 8, 160), (2, 160, 13), (2, 2, 13), (2, 2, 13), (2,)]
    assert draw_noise(batch(), 8, align=False).alignment is None
    assert ((noise.slices >= 0) & (noise.slices < 1)).all()


def test_a_batch_moves_as_one() -> None:
    moved_batch = batch().to(torch.device("meta"))
    assert {getattr(moved_batch, f.name).device.type for f in fields(Batch)} == {"meta"}
    assert torch.equal(text_of(batch()).tone, batch().tones)


def test_players_that_do_not_fit_are_refused() -> None:
    everyone = players()
    with pytest.raises(ConfigError, match="WavLM and its discriminator belong together: give both or neither"):
        replace(everyone, wavlm=None)
    with pytest.raises(ConfigError, match="no optimiser for DUR, WD; found D, G"):
        replace(everyone, optimizers={name: everyone.optimizers[name] for name in "GD"})
