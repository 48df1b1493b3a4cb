"""Settings of TensorRT-LLM and vLLM: option names, request fields, and the effect of the bias sent over HTTP."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from tritone.errors import ConfigError
from tritone.export import to_trtllm
from tritone.export.to_huggingface import write_weights
from tritone.export.to_trtllm import SHIFT, TrtllmArgs, sparse_bias, write_settings
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.lm.v2.network import load_lm
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.lm.hf_model import HfModel
from tritone.lm.sampling import SamplingConfig

NANO = Path(__file__).parents[3] / "checkpoints" / "nano"

# As documented: TorchLlmArgs, KvCacheConfig and CudaGraphConfig of TensorRT-LLM 1.3, `vllm serve --help` of vLLM 0.30,
# and the fields that the completion requests of both servers share. Both refuse names they do not know.
TRTLLM = {
    "": {
        "max_batch_size", "max_num_tokens", "max_seq_len", "dtype", "kv_cache_config", "cuda_graph_config",
        "num_postprocess_workers", "tensor_parallel_size", "skip_tokenizer_init", "model_kwargs",
    },
    "kv_cache_config": {"free_gpu_memory_fraction", "enable_block_reuse", "max_tokens", "dtype"},
    "cuda_graph_config": {"enable_padding", "max_batch_size", "batch_sizes"},
}  # fmt: skip
VLLM = {
    "model", "dtype", "max-model-len", "max-num-seqs", "max-num-batched-tokens", "gpu-memory-utilization",
    "generation-config", "enable-prefix-caching", "tensor-parallel-size", "served-model-name",
}  # fmt: skip
REQUEST = {
    "temperature", "top_p", "top_k", "stop_token_ids", "logit_bias", "add_special_tokens", "skip_special_tokens",
    "min_tokens", "max_tokens", "seed", "stream", "ignore_eos", "repetition_penalty",
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> HfModel:
    if not (NANO / "llm.pt").is_file():
        pytest.skip(f"{NANO} is not here")
    return family(NANO).causal_lm.huggingface()


@pytest.fixture(scope="module")
def folder(model: HfModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("huggingface")
    weights = model.split(model.read())
    write_weights(weights, out)
    (out / "config.json").write_text(json.dumps(dict(model.config)))
    write_settings(model, weights.bias, out)
    return out


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_options_have_the_documented_names(folder: Path) -> None:
    options = loaded(folder / "trtllm.yaml")
    assert options.keys() <= TRTLLM[""] and options["max_seq_len"] == 2048
    for group in ("kv_cache_config", "cuda_graph_config"):
        assert options[group].keys() <= TRTLLM[group]
    assert 0 < options["kv_cache_config"]["free_gpu_memory_fraction"] < 1
    assert options["max_batch_size"] == options["cuda_graph_config"]["max_batch_size"]
    assert options["max_num_tokens"] >= options["max_seq_len"]  # or the longest prompt is refused
    assert options["num_postprocess_workers"] == 0
    served = loaded(folder / "vllm.yaml")
    assert served.keys() <= VLLM and served["max-model-len"] == 2048


def test_the_options_are_the_dataclasses(folder: Path) -> None:
    options = loaded(folder / "trtllm.yaml")
    groups = {
        "kv_cache_config": to_trtllm.KvCacheConfig(**options.pop("kv_cache_config")),
        "cuda_graph_config": to_trtllm.CudaGraphConfig(**options.pop("cuda_graph_config")),
    }
    assert TrtllmArgs(**options, **groups) == TrtllmArgs(max_seq_len=2048)


def test_every_request_carries_sampling_stops_and_bias(folder: Path, model: HfModel) -> None:
    request = json.loads((folder / "request.json").read_text())
    assert request.keys() <= REQUEST
    sampling = CosyVoiceCheckpoint(NANO).config.lm.sampling
    assert sampling.top_p != SamplingConfig().top_p  # or it would not show that the checkpoint's own is taken
    assert (request["temperature"], request["top_p"], request["top_k"]) == (1.0, sampling.top_p, sampling.top_k)
    assert request["stop_token_ids"] == [model.first + stop for stop in (6561, 6562, 6563)]
    assert list(map(int, request["logit_bias"])) == list(range(model.first, model.first + model.rows))
    assert max(map(abs, request["logit_bias"].values())) <= 100


def test_the_bias_of_a_request_gives_the_speech_models_probabilities(folder: Path, model: HfModel) -> None:
    text = TextFrontend(NANO).encode("Rice is often served in round bowls.")
    speech = torch.randint(0, 6561, (30,), generator=torch.Generator().manual_seed(3))
    ids = model.ids([6564, *(6566 + i for i in text), 6565, *speech.tolist()])
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    bias = torch.zeros(model.config["vocab_size"])
    for token, value in json.loads((folder / "request.json").read_text())["logit_bias"].items():
        bias[int(token)] = value
    with torch.inference_mode():
        wanted = load_lm(CosyVoiceCheckpoint(NANO)).log_probs(torch.tensor([text]), speech[None])[0]
        logits = network(torch.tensor([ids])).logits[0, len(text) + 1 :]
    rows = slice(model.first, model.first + model.rows)
    assert (torch.log_softmax(logits + bias, -1)[:, rows] - wanted).abs().max() < 1e-5
    assert 1 - torch.softmax((logits + bias).double(), -1)[:, rows].sum(-1).min() < 1e-12
    # The bias alone, without the shift, leaves the other ids in.
    unshifted = bias - SHIFT * (bias != 0)
    assert 1 - torch.softmax((logits + unshifted).double(), -1)[:, rows].sum(-1).min() > 1e-3


def test_a_bias_that_no_server_takes_is_explained() -> None:
    bias = torch.full((8,), -torch.inf)
    with pytest.raises(ConfigError, match=r"raised by 40, reaches 0 over 0 ids; the limit is 100"):
        sparse_bias(bias)
    bias[3] = 61
    with pytest.raises(ConfigError, match=r"reaches 101 over 1 ids; .* Use the bias in the process"):
        sparse_bias(bias)
    bias[3] = -2
    assert sparse_bias(bias) == {"3": 38.0}


def test_longer_models_get_longer_sequences(model: HfModel, tmp_path: Path) -> None:
    longer = dataclasses.replace(model, positions=4096)
    write_settings(longer, torch.zeros(4), tmp_path)
    assert loaded(tmp_path / "trtllm.yaml")["max_seq_len"] == loaded(tmp_path / "vllm.yaml")["max-model-len"] == 4096
