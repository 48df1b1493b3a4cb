"""The tiny v3 checkpoint behind the golden numbers: its configuration, its networks and all its stages."""

from __future__ import annotations

import functools
from pathlib import Path

from support.golden_weights import BACKBONE, GOLDEN, tiny_state
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v3 import DitConfig, DitFlowConfig, LookaheadConfig
from tritone.families.cosyvoice.flow.v3.network import DitFlow
from tritone.families.cosyvoice.flow.v3.stages import flow_stages
from tritone.families.cosyvoice.lm.v2.network import SpeechLM
from tritone.families.cosyvoice.vocoder.hift import Hift
from tritone.families.cosyvoice.vocoder.stages import vocoder_stages
from tritone.stage import Stage

YAML_FILE = GOLDEN / "cosyvoice_v3" / "cosyvoice3.yaml"
END_OF_PROMPT_ID = 151646


@functools.cache
def tiny_config() -> CosyVoiceConfig:
    return parse_yaml(YAML_FILE.read_text(), Path("cosyvoice3.yaml"), 3)


@functools.cache
def tiny_flow() -> DitFlow:
    flow = DitFlow(tiny_config().flow)
    flow.load_state_dict(tiny_state("flow", "v3"), strict=True)
    return flow.eval()


def tiny_hift() -> Hift:
    """Return a new one each time: stages fold its weights."""
    hift = Hift(tiny_config().hift)
    hift.load_state_dict(tiny_state("hift", "v3"), strict=True)
    return hift.eval()


@functools.cache
def tiny_lm() -> SpeechLM:
    lm = SpeechLM(tiny_config().lm, BACKBONE)
    lm.load_state_dict(tiny_state("llm", "v3"), strict=True)
    return lm.eval()


def tiny_stages() -> dict[str, Stage]:
    config = tiny_config()
    return {s.name: s for s in (*flow_stages(config.flow, tiny_flow), *vocoder_stages(config.hift, tiny_hift))}


def random_flow(left_chunks: int, chunk: int) -> tuple[DitFlowConfig, DitFlow]:
    """Return a flow with random weights whose mask has `chunk` tokens (2 x frames) and `left_chunks`."""
    import torch

    config = DitFlowConfig(
        vocab_size=50,
        spk_embed_dim=8,
        encoder=LookaheadConfig(24, chunk),
        estimator=DitConfig(
            dim=32, depth=3, num_heads=2, attention_head_dim=16, chunk_size=2 * chunk, left_chunks=left_chunks
        ),
    )
    torch.manual_seed(0)
    return config, DitFlow(config).eval()
