"""Which networks and stages a layout has, told by the kind of its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig, TransformerLmConfig
from tritone.families.cosyvoice.config.v3 import DitFlowConfig
from tritone.families.cosyvoice.flow.v1.stages import interpolating_flow_stages
from tritone.families.cosyvoice.flow.v2.stages import flow_stages
from tritone.families.cosyvoice.flow.v3.stages import dit_flow_stages
from tritone.families.cosyvoice.lm.v1_stages import lm_stages
from tritone.stage import Stage

if TYPE_CHECKING:
    from torch import nn


def flow_network(config: CosyVoiceConfig) -> nn.Module:
    """Return the flow with weights still to be loaded."""
    if isinstance(config.flow, DitFlowConfig):
        from tritone.families.cosyvoice.flow.v3.network import DitFlow

        return DitFlow(config.flow)
    if isinstance(config.flow, InterpolatingFlowConfig):
        from tritone.families.cosyvoice.flow.v1.network import InterpolatingFlow

        return InterpolatingFlow(config.flow)
    from tritone.families.cosyvoice.flow.v2.network import Flow

    return Flow(config.flow)


def stages_of_flow(config: CosyVoiceConfig, flow: Callable[[], Any]) -> tuple[Stage, ...]:
    """Return the flow's stages; `flow` returns what `flow_network` gives, loaded, the same one each time."""
    if isinstance(config.flow, DitFlowConfig):
        return dit_flow_stages(config.flow, flow)
    if isinstance(config.flow, InterpolatingFlowConfig):
        return interpolating_flow_stages(config.flow, flow)
    return flow_stages(config.flow, flow)


def stages_of_lm(config: CosyVoiceConfig, lm: Callable[[], Any]) -> tuple[Stage, ...]:
    """Return the language model's stages where it has any (v1); `lm` returns it loaded, the same one each time."""
    return lm_stages(config.lm, lm) if isinstance(config.lm, TransformerLmConfig) else ()
