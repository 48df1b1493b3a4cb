"""The CosyVoice family of one checkpoint: its stages, host steps and language model, at the checkpoint's sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tritone.calls import FilesRead, never
from tritone.checkpoint.files_read import relative
from tritone.engines.torch_run import TorchRun
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.lm.v1.session import stage_llm
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.families.cosyvoice.published import PUBLISHED
from tritone.families.cosyvoice.speak.hosts import hosts, waveform_tensor
from tritone.families.cosyvoice.speak.pieces import speak_pieces, takes_pieces
from tritone.families.cosyvoice.speak.request import REQUEST, prepare
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.vocoder.stages import vocoder_stages
from tritone.families.cosyvoice.voices.services import services
from tritone.families.cosyvoice.voices.speaker_file import find_file
from tritone.families.cosyvoice.voices.speakers import read_voices
from tritone.lm.description import CausalLm, StageLm
from tritone.lm.protocols import SpeechLm
from tritone.stage import Arrays, Axis, Call, Family, Stage, Tensor

if TYPE_CHECKING:
    from torch import nn

    from tritone.families.cosyvoice.config.v1 import TransformerLmConfig
    from tritone.families.cosyvoice.lm.v2.network import SpeechLM
    from tritone.lm.hf_model import HfModel

FEATURES = Axis("whisper_frames", 4, 500, 3000)
FBANK = Axis("fbank_frames", 4, 500, 3000)
LM_STAGES = ("llm_text_encoder", "llm_step")
EXAMPLES = (
    "The ferry left the harbour at noon, and nobody on the pier waved.",
    "How long have you been waiting for the doctor?",
)
"""Texts after which a language model with quantised weights is compared with the fp32 one."""
POSITIONS = 4096
"""The longest sequence of the language model: prompt, text and speech together."""


def ready_made_stages(config: CosyVoiceConfig) -> tuple[Stage, ...]:
    """Return the two networks that every checkpoint has as ONNX files; their tensors are matched by position."""
    rate = config.flow.token_frame_rate
    tokens = Axis("reference_tokens", 1, 5 * rate, 30 * rate)
    tokenizer = Stage(
        "speech_tokenizer",
        (
            Tensor("feats", "float32", (1, 128, FEATURES)),
            Tensor("feats_length", "int32", (1,), length_of=FEATURES),
        ),
        (Tensor("indices", "int32", (1, tokens), values=(0, config.flow.vocab_size)),),
        None,
        file=config.version.speech_tokenizer,
        # The outputs are code numbers: rounding before the quantiser may give another code, beyond any tolerance.
        keep_fp32=("*",),
    )
    embedding = Stage(
        "speaker_embedding",
        (Tensor("input", "float32", (1, FBANK, 80)),),
        (Tensor("output", "float32", (1, config.flow.spk_embed_dim)),),
        None,
        file="campplus.onnx",
        fp16_tolerance=1e-2,
    )
    return (tokenizer, embedding)


def all_stages(config: CosyVoiceConfig, network: Callable[[str], Any]) -> tuple[Stage, ...]:
    """Return every stage of that configuration.

    `network("llm" | "flow" | "hift")` returns a network with its weights; it is called at most once for each name.
    """
    once = lru_cache(maxsize=None)(network)
    return (
        *config.version.lm_stages(config.lm, lambda: once("llm")),
        *config.version.flow_stages(config.flow, lambda: once("flow")),
        *vocoder_stages(config.hift, lambda: once("hift")),
        *ready_made_stages(config),
    )


def load_network(checkpoint: CosyVoiceCheckpoint, name: str) -> nn.Module:
    """Return the network "llm" (v1 only), "flow" or "hift" with its weights, in eval mode."""
    from tritone.checkpoint.weights import built
    from tritone.families.cosyvoice.vocoder.hift import Hift

    config = checkpoint.config
    networks: dict[str, Callable[[], nn.Module]] = {
        "llm": lambda: config.version.lm_network(config.lm, {}),
        "flow": lambda: config.version.flow_network(config.flow),
        "hift": lambda: Hift(config.hift),
    }
    return built(networks[name], checkpoint.state(name), checkpoint.path(f"{name}.pt")).eval()


def family(model_dir: str | Path) -> Family:
    """Return the description of the checkpoint in `model_dir` for exporters and servers.

    Weights are loaded when a stage is built; the description itself needs no torch.

    Raises:
        CheckpointError: a required file is missing or damaged; the message names it.
    """
    folder = Path(model_dir)
    checkpoint = CosyVoiceCheckpoint(folder)
    config = checkpoint.config
    front = TextFrontend(folder)
    voices = read_voices(folder)

    stages = all_stages(config, lambda name: load_network(checkpoint, name))
    by_name = {stage.name: stage for stage in stages}

    def speak(
        call: Call, llm: SpeechLm, request: Arrays, cancelled: Callable[[], bool] = never
    ) -> Iterator[np.ndarray]:
        prepared = prepare(call, request, config, front, voices)
        return Synthesizer(call, by_name, config, voices.prompts).speak(llm, prepared, cancelled)

    def speak_arriving(
        call: Call, llm: SpeechLm, request: Arrays, pieces: Iterable[str], cancelled: Callable[[], bool] = never
    ) -> Iterator[np.ndarray]:
        prepared = prepare(call, request, config, front, voices, in_pieces=True)
        synthesizer = Synthesizer(call, by_name, config, voices.prompts)
        return speak_pieces(synthesizer, llm, prepared, pieces, front, cancelled)

    return Family(
        name=config.version.name,
        stages=stages,
        lm=language_model(checkpoint, front, stages),
        request=REQUEST,
        response=(waveform_tensor(stages, config),),
        synthesize=speak,
        hosts=hosts(stages, config, front, voices),
        settings={
            "sample_rate": config.sample_rate,
            "speakers": voices.names,
            "modes": list(config.version.modes),
            **({"text_in_pieces": "turns"} if takes_pieces(front) else {}),
        },
        services=services(),
        synthesize_pieces=speak_arriving if takes_pieces(front) else None,
        kept=lambda: (len(voices.prompts), voices.prompts.total_bytes),
        files=lambda: FilesRead(checkpoint.files, relative(folder, filter(None, [find_file(folder)]))),
    )


def lm_stages(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages that are steps of the language model; none if it is a causal LM."""
    return [stage for stage in stages if stage.name in LM_STAGES]


def language_model(checkpoint: CosyVoiceCheckpoint, front: TextFrontend, stages: Sequence[Stage]) -> StageLm | CausalLm:
    """Return the language model: two of the stages in v1, a Qwen2 in v2 and v3."""
    lm = checkpoint.config.lm
    if lm_stages(stages):
        return StageLm(partial(stage_llm, stages=lm_stages(stages), config=cast("TransformerLmConfig", lm)))

    def build() -> SpeechLM:
        from tritone.families.cosyvoice.lm.v2.network import load_lm

        return load_lm(checkpoint)

    def merged() -> tuple[Any, Any]:
        from tritone.families.cosyvoice.lm.v2.network import merge_vocabulary

        model, bias, _ = merge_vocabulary(build())
        return model, bias

    def huggingface() -> HfModel:
        from tritone.families.cosyvoice.lm.v2.huggingface import hf_model

        return hf_model(checkpoint, front, POSITIONS)

    def examples() -> list[list[int]]:
        head = front.encode_prompt(front.system_prompt + END_OF_PROMPT) if front.system_prompt else []
        return [vocabulary(lm).prompt([*head, *front.encode(text)]) for text in EXAMPLES]

    def open_torch(how: TorchRun) -> SpeechLm:
        from tritone.families.cosyvoice.lm.v2.session import torch_llm

        return torch_llm(build, how)

    return CausalLm(
        "llm",
        vocabulary=lm.head_size,
        channels=1,
        limits={"stop_ids": lm.stop_ids, "positions": POSITIONS},
        build=build,
        open_torch=open_torch,
        merged=merged,
        huggingface=huggingface,
        examples=examples,
    )


def published(yaml: str) -> Family:
    """Return the family whose checkpoints have that YAML, at the published sizes, without weights or voices."""
    config = next(config for config in PUBLISHED.values() if config.version.yaml == yaml)

    def no_weights(*_: Any, **__: Any) -> Any:
        raise CheckpointError("this family was described without a checkpoint; it has no weights.")

    stages = all_stages(config, no_weights)
    causal = CausalLm("llm", config.lm.head_size, 1, {}, no_weights, no_weights)
    return Family(
        name=config.version.name,
        stages=stages,
        lm=StageLm(no_weights) if lm_stages(stages) else causal,
        request=REQUEST,
        response=(waveform_tensor(stages, config),),
        synthesize=no_weights,
    )
