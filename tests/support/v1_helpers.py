"""The tiny v1 checkpoint behind the golden numbers: its configuration, its networks and all its stages."""

from __future__ import annotations

import functools
from pathlib import Path

from support.golden_weights import GOLDEN, tiny_state
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.v1.network import InterpolatingFlow
from tritone.families.cosyvoice.flow.v1.stages import flow_stages
from tritone.families.cosyvoice.lm.v1.network import TransformerLm
from tritone.families.cosyvoice.lm.v1.stages import lm_stages
from tritone.families.cosyvoice.vocoder.hift import Hift
from tritone.families.cosyvoice.vocoder.stages import vocoder_stages
from tritone.stage import Stage

YAML_FILE = GOLDEN / "cosyvoice_v1" / "cosyvoice.yaml"


@functools.cache
def tiny_config() -> CosyVoiceConfig:
    return parse_yaml(YAML_FILE.read_text(), Path("cosyvoice.yaml"), 1)


@functools.cache
def tiny_lm() -> TransformerLm:
    lm = TransformerLm(tiny_config().lm)
    lm.load_state_dict(tiny_state("llm", "v1"), strict=True)
    return lm.eval()


@functools.cache
def tiny_flow() -> InterpolatingFlow:
    flow = InterpolatingFlow(tiny_config().flow)
    flow.load_state_dict(tiny_state("flow", "v1"), strict=True)
    return flow.eval()


def tiny_hift() -> Hift:
    """Return a fresh one each time: its stages fold its weights in place."""
    hift = Hift(tiny_config().hift)
    hift.load_state_dict(tiny_state("hift", "v1"), strict=True)
    return hift.eval()


@functools.cache
def tiny_stages() -> dict[str, Stage]:
    config = tiny_config()
    stages = (
        *lm_stages(config.lm, tiny_lm),
        *flow_stages(config.flow, tiny_flow),
        *vocoder_stages(config.hift, tiny_hift),
    )
    return {stage.name: stage for stage in stages}
