"""A checkpoint on torch on a GPU beside the same on a CPU, in fp32 and under autocast.

These tests need an NVIDIA GPU and a CUDA build of torch. They were written on a machine without one and have not been
run: there, autocast is tested on a CPU (tests/unit/engines/test_torch_run.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tritone.engines import gpu
from tritone.load import Model, load_model

LIMIT = 2e-2
"""Of the peak: convolutions may compute in TF32, whose mantissa is that of fp16."""
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.gpu(), reason="no CUDA device on this machine"),
    pytest.mark.skipif(
        bool(gpu.gpu()) and not torch.cuda.is_available(), reason="there is a GPU, but torch is a CPU build"
    ),
]


@pytest.fixture(scope="module")
def on_cpu(tiny_v2: Path) -> Model:
    return load_model(tiny_v2)


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("name", ["flow_encoder", "flow_estimator", "f0_predictor", "vocoder"])
def test_stages_agree(tiny_v2: Path, on_cpu: Model, name: str, fp16: bool) -> None:
    model = load_model(tiny_v2, fp16=fp16, device="cuda")
    stage = model.family.stage(name)
    given = stage.example({axis.name: max(axis.lo, min(axis.opt, 24)) for axis in stage.axes})
    wanted, found = on_cpu.call(name, **given), model.call(name, **given)
    for output in stage.outputs:
        assert found[output.name].dtype == output.dtype
        assert np.abs(found[output.name] - wanted[output.name]).max() < LIMIT * np.abs(wanted[output.name]).max()


@pytest.mark.parametrize("fp16", [False, True])
def test_language_models_agree_and_the_whole_speaks(tiny_v2: Path, on_cpu: Model, fp16: bool) -> None:
    model = load_model(tiny_v2, fp16=fp16, device="cuda")
    ids = [6564, 6566 + 104, 6565]
    wanted, found = on_cpu.llm.session().prefill(ids), model.llm.session().prefill(ids)
    assert np.abs(found - wanted).max() < LIMIT * np.abs(wanted).max()
    wave = model.synthesize("hi", speaker="a", seed=1)
    assert len(wave) > 1000 and np.isfinite(wave).all()
