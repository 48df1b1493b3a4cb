"""The official sizes of each version; a key missing in a checkpoint's YAML has its value from here."""

from __future__ import annotations

from tritone.audio.mel import MelConfig
from tritone.families.cosyvoice.config.common import CosyVoiceConfig, HiftConfig, LmConfig
from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig, TransformerLmConfig
from tritone.families.cosyvoice.config.v2 import FlowConfig
from tritone.families.cosyvoice.config.v3 import DitFlowConfig, InlineLmConfig
from tritone.families.cosyvoice.versions import VERSIONS
from tritone.families.cosyvoice.vocoder.noise_offset import with_noise_offset

V1 = CosyVoiceConfig(
    version=VERSIONS[1],
    sample_rate=22050,
    text_frontend="whisper",
    lm=TransformerLmConfig(),
    flow=InterpolatingFlowConfig(),
    hift=HiftConfig(
        sample_rate=22050,
        upsample_rates=(8, 8),
        upsample_kernel_sizes=(16, 16),
        source_resblock_kernel_sizes=(7, 11),
        source_resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)),
        excitation="running",
    ),
    mel=MelConfig(n_fft=1024, sample_rate=22050, hop=256, win=1024),
)
V2 = CosyVoiceConfig(
    version=VERSIONS[2],
    sample_rate=24000,
    text_frontend="qwen",
    lm=LmConfig(),
    flow=FlowConfig(),
    hift=HiftConfig(),
    mel=MelConfig(),
)
V3 = with_noise_offset(
    CosyVoiceConfig(
        version=VERSIONS[3],
        sample_rate=24000,
        text_frontend="qwen",
        lm=InlineLmConfig(),
        flow=DitFlowConfig(),
        hift=HiftConfig(look_right=4, excitation="stepped"),
        mel=MelConfig(fmax=None),
    )
)
PUBLISHED = {1: V1, 2: V2, 3: V3}
