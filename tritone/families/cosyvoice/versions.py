"""The three published versions of CosyVoice: one `Version` value each, with everything that distinguishes them.

A checkpoint's configuration carries its `Version`; code uses the fields of that value instead of testing which version
it is. Importing this module needs no torch: networks are imported when they are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.families.cosyvoice.checkpoint import v1 as yaml_v1
from tritone.families.cosyvoice.checkpoint import v2 as yaml_v2
from tritone.families.cosyvoice.checkpoint import v3 as yaml_v3
from tritone.families.cosyvoice.checkpoint.fields import Layout
from tritone.families.cosyvoice.flow.grid import chunk_inputs
from tritone.families.cosyvoice.flow.noise import Draw, drawn_noise, table_noise
from tritone.families.cosyvoice.flow.v1 import stages as flow_v1
from tritone.families.cosyvoice.flow.v1.interpolation import frame_inputs
from tritone.families.cosyvoice.flow.v2 import stages as flow_v2
from tritone.families.cosyvoice.flow.v3 import stages as flow_v3
from tritone.families.cosyvoice.lm import special_tokens
from tritone.families.cosyvoice.lm.silence import SILENT_TOKENS
from tritone.families.cosyvoice.lm.v1.stages import lm_stages
from tritone.stage import Arrays, Stage

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.cosyvoice.config.common import CosyVoiceConfig

BACKBONE = "CosyVoice-BlankEN"
"""The folder of the Qwen2 in checkpoints of v2 and v3: its configuration and the text tokenizer."""
Loader = Callable[[], Any]
"""A function that returns a network with its weights, the same one each time."""


def _as_read(config: CosyVoiceConfig, _path: Path) -> CosyVoiceConfig:
    return config


def _no_stages(_config: Any, _loader: Loader) -> tuple[Stage, ...]:
    return ()


@dataclass(frozen=True, eq=False)
class Version:
    """One published version of CosyVoice; its functions take the part of the configuration that they need.

    Args:
        number: 1 (CosyVoice-300M), 2 (CosyVoice2-0.5B) or 3 (Fun-CosyVoice3-0.5B).
        yaml: the file name of the checkpoint's configuration.
        layout: the table of the settings in that file.
        files: further files that a checkpoint needs, as paths in its folder.
        lm_network: `lm_network(config.lm, backbone)`: the language model, before its weights are loaded.
        flow_network: `flow_network(config.flow)`: the flow, before its weights are loaded.
        flow_stages: `flow_stages(config.flow, loader)`: the stages of the flow.
        encoder_inputs: `encoder_inputs(config.flow, rows, streaming)`: inputs of `flow_encoder` besides tokens and
            speaker, for a padded batch; a row is (prompt tokens, prompt frames, tokens to speak).
        starting_noise: `starting_noise(mels, seed)`: the noise that the solver starts from.
        lm_stages: `lm_stages(config.lm, loader)`: the language model's stages; none if it is a causal LM.
        completed: `completed(config, path)`: the configuration as read, with the settings that follow from others;
            CheckpointError for settings that contradict each other.
        special_tokens: the text tokenizer's special tokens in id order.
        modes: names of the request modes it was trained for.
        instruct_mode: the mode of a request that has an instruction but names no mode.
        system_prompt: the words before `<|endofprompt|>` at the start of every prompt in training.
        silent_tokens: codes of silence and breath, whose long runs are shortened.
    """

    number: int
    yaml: str
    layout: Layout
    files: tuple[str, ...]
    lm_network: Callable[[Any, Mapping[str, Any]], nn.Module]
    flow_network: Callable[[Any], nn.Module]
    flow_stages: Callable[[Any, Loader], tuple[Stage, ...]]
    encoder_inputs: Callable[[Any, Sequence[tuple[int, int, int]], bool], Arrays]
    starting_noise: Callable[[int, int], Draw]
    lm_stages: Callable[[Any, Loader], tuple[Stage, ...]] = _no_stages
    completed: Callable[[CosyVoiceConfig, Path], CosyVoiceConfig] = _as_read
    special_tokens: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("sft", "zero_shot", "cross_lingual", "instruct2", "vc")
    instruct_mode: str = "instruct2"
    system_prompt: str = ""
    silent_tokens: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"Version({self.number})"

    @property
    def name(self) -> str:
        """The model's name in files and servers."""
        return f"cosyvoice{self.number}"

    @property
    def speech_tokenizer(self) -> str:
        """File name of the network that turns a recording into speech tokens."""
        return f"speech_tokenizer_v{self.number}.onnx"


def _lm_v1(config: Any, _backbone: Mapping[str, Any]) -> nn.Module:
    from tritone.families.cosyvoice.lm.v1.network import TransformerLm

    return TransformerLm(config)


def _lm_v2(config: Any, backbone: Mapping[str, Any]) -> nn.Module:
    from tritone.families.cosyvoice.lm.v2.network import SpeechLM

    return SpeechLM(config, backbone)


def _flow_v1(config: Any) -> nn.Module:
    from tritone.families.cosyvoice.flow.v1.network import InterpolatingFlow

    return InterpolatingFlow(config)


def _flow_v2(config: Any) -> nn.Module:
    from tritone.families.cosyvoice.flow.v2.network import Flow

    return Flow(config)


def _flow_v3(config: Any) -> nn.Module:
    from tritone.families.cosyvoice.flow.v3.network import DitFlow

    return DitFlow(config)


VERSIONS: dict[int, Version] = {
    version.number: version
    for version in (
        Version(
            number=1,
            yaml="cosyvoice.yaml",
            layout=yaml_v1.LAYOUT,
            files=(),
            modes=("sft", "zero_shot", "cross_lingual", "instruct", "vc"),
            instruct_mode="instruct",
            lm_network=_lm_v1,
            flow_network=_flow_v1,
            flow_stages=flow_v1.flow_stages,
            encoder_inputs=frame_inputs,
            starting_noise=drawn_noise,
            lm_stages=lm_stages,
            completed=yaml_v1.completed,
        ),
        Version(
            number=2,
            yaml="cosyvoice2.yaml",
            layout=yaml_v2.LAYOUT,
            files=(f"{BACKBONE}/config.json",),
            lm_network=_lm_v2,
            flow_network=_flow_v2,
            flow_stages=flow_v2.flow_stages,
            encoder_inputs=chunk_inputs,
            starting_noise=table_noise,
            special_tokens=special_tokens.V2,
        ),
        Version(
            number=3,
            yaml="cosyvoice3.yaml",
            layout=yaml_v3.LAYOUT,
            files=(f"{BACKBONE}/config.json",),
            lm_network=_lm_v2,
            flow_network=_flow_v3,
            flow_stages=flow_v3.flow_stages,
            encoder_inputs=chunk_inputs,
            starting_noise=table_noise,
            completed=yaml_v3.completed,
            special_tokens=special_tokens.V3,
            system_prompt="You are a helpful assistant.",
            silent_tokens=SILENT_TOKENS,
        ),
    )
}
"""By number, in the order in which the published code looks for their files."""
