"""Half precision by autocast: what declares that it needs float32 gets it, everything else computes in float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tritone.catalog import open_family
from tritone.engines.torch import torch_call
from tritone.engines.torch_run import TorchRun
from tritone.families.cosyvoice.lm.v2.session import TorchSession, torch_llm

HALF = TorchRun(fp16=True)


class Delicate(nn.Linear):
    full_precision = True


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.fine = nn.Linear(4, 4), Delicate(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.coarse(x)
        return y, self.fine(y)


def test_only_what_is_declared_delicate_stays_in_float32() -> None:
    module = HALF.placed(HALF.placed(Both()))  # stages share modules, so one may be placed twice
    with HALF.scope():
        coarse, fine = module(torch.ones(1, 4))
    assert (coarse.dtype, fine.dtype) == (torch.float16, torch.float32)
    with torch.no_grad():
        assert torch.equal(fine, nn.functional.linear(coarse.float(), module.fine.weight, module.fine.bias))
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_threads_are_those_asked_for_and_given_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="inside"), TorchRun(threads=before + 1).scope():
        assert torch.get_num_threads() == before + 1
        raise ValueError("inside")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["flow_encoder", "flow_estimator", "f0_predictor", "vocoder"])
def test_stages_under_autocast_stay_near_fp32(tiny_v2: Path, name: str) -> None:
    family = open_family(tiny_v2)
    stage = family.stage(name)
    given = stage.example({axis.name: max(axis.lo, min(axis.opt, 24)) for axis in stage.axes})
    wanted = torch_call(family.stages)(name, **given)
    found = torch_call(open_family(tiny_v2).stages, HALF)(name, **given)
    differs = False
    for output in stage.outputs:
        assert found[output.name].dtype == output.dtype == wanted[output.name].dtype
        error = np.abs(found[output.name] - wanted[output.name]).max() / np.abs(wanted[output.name]).max()
        assert error < stage.fp16_tolerance, output.name
        differs |= error > 0
    assert differs == (name != "f0_predictor")  # which is delicate as a whole


def test_the_language_model_under_autocast_stays_near_fp32(tiny_v2: Path) -> None:
    model = open_family(tiny_v2).causal_lm
    assert model is not None
    reference, half = TorchSession(model.build()), torch_llm(model.build, HALF).session()
    ids = [6564, 6566 + 104, 6565]
    for wanted, found in ((reference.prefill(ids), half.prefill(ids)), (reference.step(7), half.step(7))):
        assert found.dtype == np.float32
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert 0 < error < 2e-2
