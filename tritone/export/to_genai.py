"""Export a language model as an onnxruntime-genai folder whose head has only the rows that can be sampled.

The package's own model builder writes the graph. It accepts an embedding with more rows than the head (prompts use ids
that are never predicted), and a head with a bias.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tritone.build.disk import scratch_folder
from tritone.errors import ConfigError
from tritone.export.to_onnx import quiet
from tritone.lm.description import CausalLm

ARCHITECTURE = "Qwen2ForCausalLM"
PRECISIONS = ("int8", "int4", "fp32")
TOOLS = ("torch", "transformers", "onnxruntime", "onnxruntime-genai")


def export_llm(llm: CausalLm, folder: Path, precision: str = "int8") -> None:
    """Write the model to `folder` (replaced in one step); `precision` is the weights', activations stay fp32."""
    if precision not in PRECISIONS:
        raise ConfigError(
            f"unknown language model precision {precision!r}; onnxruntime-genai has {', '.join(PRECISIONS)}"
        )
    with scratch_folder(folder.parent, folder.name) as scratch:
        part = scratch / folder.name
        part.mkdir()
        write(llm, part, scratch, precision)
        # The builder refers to itself, and so keeps gigabytes of weights alive until they are collected.
        gc.collect()
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)


def write(llm: CausalLm, part: Path, scratch: Path, precision: str) -> None:
    """Write the model into the folder `part`."""
    model = narrowed(llm)
    config = builder_config(llm, model)
    settings = scratch / "settings"
    config.save_pretrained(settings)
    config._name_or_path = str(settings)
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        run_builder(model, config, part, scratch / "cache", precision)
    finish_settings(llm, part / "genai_config.json")


def narrowed(llm: CausalLm) -> Any:
    """Return the merged causal LM with a head of exactly `llm.vocabulary` rows and its bias."""
    import torch

    if llm.merged is None:
        raise ConfigError(f"language model {llm.name} has no merged vocabulary; onnxruntime-genai cannot run it")
    model, bias = llm.merged()
    if type(model).__name__ != ARCHITECTURE:
        raise ConfigError(f"language model {llm.name} is a {type(model).__name__}; only {ARCHITECTURE} is supported")
    head = torch.nn.Linear(model.config.hidden_size, llm.vocabulary, bias=bias is not None)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight[: llm.vocabulary])
        if bias is not None:
            head.bias.copy_(bias)
    model.lm_head = head
    return model.eval()


def builder_config(llm: CausalLm, model: Any) -> Any:
    """Return the transformers configuration for the builder: the model's, with the head's vocabulary and the limits."""
    config = type(model.config)(**model.config.to_dict())
    stops = [int(i) for i in llm.limits["stop_ids"]]
    config.vocab_size = llm.vocabulary
    config.tie_word_embeddings = False
    config.architectures = [ARCHITECTURE]
    config.max_position_embeddings = min(config.max_position_embeddings, int(llm.limits["positions"]))
    config.eos_token_id, config.bos_token_id, config.pad_token_id = stops, stops[0], stops[0]
    return config


def run_builder(model: Any, config: Any, out: Path, cache: Path, precision: str) -> None:
    """Let the package's builder write `model` in the given weight precision for the CPU."""
    import onnxruntime_genai.models  # noqa: F401  (puts the builder's folder on sys.path)
    import torch
    from builder import set_io_dtype, set_onnx_dtype
    from builders import QwenModel

    class InMemory(QwenModel):
        """Takes the weights of the module in memory and recognises its embedding by identity, not by its size."""

        def load_weights(self, input_path: str) -> Any:
            model.embedding = model.get_input_embeddings()
            return model

    options = {"prune_lm_head": True, "hf_token": False}
    built = InMemory(
        config, set_io_dtype(precision, "cpu", options), set_onnx_dtype(precision, options), "cpu", str(cache), options
    )
    with torch.no_grad():
        built.make_model("")
    built.save_model(str(out))
    built.make_genai_config(config, {}, str(out))


def finish_settings(llm: CausalLm, path: Path) -> None:
    """Restore the stop ids in the builder's settings: it adds those of a tokenizer that does not exist."""
    settings = json.loads(path.read_text())
    settings["model"]["eos_token_id"] = [int(i) for i in llm.limits["stop_ids"]]
    path.write_text(json.dumps(settings, indent=1) + "\n")
