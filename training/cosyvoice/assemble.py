"""A complete checkpoint in the official layout, assembled from finished runs, with its model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from torch import Tensor

from training.corpus.data import Corpus
from training.cosyvoice import flow as cosyvoice_flow
from training.cosyvoice import lm as cosyvoice_lm
from training.cosyvoice import vocoder as cosyvoice_vocoder
from training.cosyvoice.card import model_card
from tritone.families.cosyvoice.checkpoint.folder import SPEAKER_EMBEDDER, SPEECH_TOKENIZER, write_checkpoint
from tritone.families.cosyvoice.published import V2
from tritone.families.cosyvoice.speak.text import END_OF_PROMPT, speaker_tag
from tritone.families.cosyvoice.voices.speakers import write_voices
from tritone.families.cosyvoice.voices.voice import Voice


def assemble(out: Path, corpus: Corpus, runs: Path, smoke: bool = False, quality: list[Path] | None = None) -> None:
    """Write the directory `out` from the best networks of `runs`; weights are stored in half precision."""
    out.mkdir(parents=True, exist_ok=True)
    lm_config, lm = cosyvoice_lm.export(runs / "lm", out, corpus.speakers, smoke)
    flow = cosyvoice_flow.trained(runs / "flow", smoke)
    hift = cosyvoice_vocoder.trained(runs / "vocoder", smoke)
    config = replace(
        V2, text_frontend="phonemes", lm=lm_config, flow=flow.config, hift=hift.config, mel=corpus.mel_config
    )
    states = {"llm": halved(lm), "flow": halved(flow.state_dict()), "hift": halved(hift.state_dict())}
    write_checkpoint(out, config, states)
    copy_graph(runs / "tokenizer" / SPEECH_TOKENIZER, out / SPEECH_TOKENIZER)
    copy_graph(runs / "speaker" / SPEAKER_EMBEDDER, out / SPEAKER_EMBEDDER)
    write_voices(out, voices(corpus))
    sizes = {name: sum(tensor.numel() for tensor in state.values()) for name, state in states.items()}
    (out / "MODEL_CARD.md").write_text(model_card(corpus, runs, sizes, quality or []), encoding="utf-8")


def copy_graph(source: Path, target: Path) -> None:
    """Copy an ONNX file without its exporter's notes, which quote source files of the machine it ran on."""
    model = onnx.load(str(source))
    for thing in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        thing.doc_string = ""
        del thing.metadata_props[:]
    onnx.save(model, str(target))


def voices(corpus: Corpus) -> list[Voice]:
    """Return every speaker with the mean of their utterances' normalised embeddings, selected by their tag."""
    store = corpus.store("embedding")
    embeddings = np.concatenate([store[i] for i in range(len(corpus))])
    embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    speaker = np.array([u.speaker for u in corpus.utterances])
    return [
        Voice(name, embeddings[speaker == name].mean(axis=0), prompt_text=speaker_tag(name) + END_OF_PROMPT)
        for name in corpus.speakers
    ]


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state in float16; tensors that share storage still do afterwards."""
    halves: dict[int, Tensor] = {}
    return {
        key: halves.setdefault(tensor.data_ptr(), tensor.half()) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }
