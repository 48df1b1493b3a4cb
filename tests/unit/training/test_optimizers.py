"""Every parameter has its optimiser, and one step moves all of them."""

from __future__ import annotations

import torch
from torch import nn

from training.core import distributed
from training.core.optimizers import muon_and_adamw


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"embed": nn.Embedding(5, 4), "inside": nn.Linear(4, 4), "conv": nn.Conv1d(4, 2, 3)})


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    net = network()
    found = muon_and_adamw(net.named_parameters(), 1e-2, (0.9, 0.95), 0.1)
    names = {id(p): name for name, p in net.named_parameters()}
    held = {kind: {names[id(p)] for g in o.param_groups for p in g["params"]} for kind, o in found.items()}
    assert held == {"muon": {"inside.weight"}, "adam": {"embed.weight", "inside.bias", "conv.weight", "conv.bias"}}
    decays = {names[id(p)]: g["weight_decay"] for g in found["adam"].param_groups for p in g["params"]}
    assert decays == {"embed.weight": 0.1, "conv.weight": 0.1, "inside.bias": 0.0, "conv.bias": 0.0}


def test_one_update_steps_both_with_one_clipped_norm() -> None:
    net = network()
    optimizers = muon_and_adamw(net.named_parameters(), 1e-2, (0.9, 0.95), 0.1)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    out = net["conv"](net["inside"](net["embed"](torch.arange(5)))[None].transpose(1, 2))
    norm = distributed.update(out.square().sum() * 100, *optimizers.values(), clip=1.0)
    total = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
    assert norm > 1 and abs(float(total) - 1) < 1e-4
    assert all(not torch.equal(before[name], p) for name, p in net.named_parameters())
