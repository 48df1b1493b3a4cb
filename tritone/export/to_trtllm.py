"""Write the settings beside a transformers folder for the engines that serve it: TensorRT-LLM and vLLM.

    trtllm.yaml    options of `tensorrt_llm.LLM` and of `trtllm-serve FOLDER --config FOLDER/trtllm.yaml`
    vllm.yaml      options of `vllm serve FOLDER --config FOLDER/vllm.yaml`
    request.json   the fields of every completion request: sampling, stop ids, and the logit bias

Neither engine supports a bias on the head, so the bias is part of the request. In the process it is the whole vector
with -inf for ids other than speech (`SamplingParams.embedding_bias`). Over HTTP numbers are finite, between -100 and
100, and sent each time: there only the speech ids are listed, raised by `SHIFT`, which does not change their
probabilities relative to each other and makes all other ids e^SHIFT times less likely.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.errors import ConfigError
from tritone.lm.hf_model import HfModel

if TYPE_CHECKING:
    from torch import Tensor

SHIFT = 40.0
"""If the best speech logit is 0, 151,936 other ids at 0 keep 6e-13 of the mass; float32 resolves 4e-6 of the sum."""
LARGEST = 100.0
"""The largest bias that both servers accept unclamped."""


@dataclass(frozen=True)
class KvCacheConfig:
    """`kv_cache_config` of TensorRT-LLM; the other stages run on the same GPU, so part of its memory is left free."""

    free_gpu_memory_fraction: float = 0.4
    enable_block_reuse: bool = True


@dataclass(frozen=True)
class CudaGraphConfig:
    """`cuda_graph_config` of TensorRT-LLM; decoding steps are captured for every batch size up to the largest."""

    enable_padding: bool = True
    max_batch_size: int = 64


@dataclass(frozen=True)
class TrtllmArgs:
    """The options of `tensorrt_llm.LLM` that are set, under the names of its `TorchLlmArgs`.

    `num_postprocess_workers` stays 0, because a server without a tokenizer in its process refuses logit biases.
    """

    max_seq_len: int
    max_batch_size: int = 64
    max_num_tokens: int = 8192
    dtype: str = "auto"
    num_postprocess_workers: int = 0
    kv_cache_config: KvCacheConfig = field(default_factory=KvCacheConfig)
    cuda_graph_config: CudaGraphConfig = field(default_factory=CudaGraphConfig)


@dataclass(frozen=True)
class VllmArgs:
    """The options of `vllm serve` that are set, with underscores for hyphens."""

    max_model_len: int
    max_num_seqs: int = 64
    gpu_memory_utilization: float = 0.4
    dtype: str = "auto"
    generation_config: str = "auto"
    enable_prefix_caching: bool = True


@dataclass(frozen=True)
class CompletionRequest:
    """The fields of a `/v1/completions` body that do not depend on the text; both servers support all of them.

    `skip_special_tokens` and `add_special_tokens` are false because prompts are complete and the response is ids.
    """

    temperature: float
    top_p: float
    top_k: int
    stop_token_ids: tuple[int, ...]
    logit_bias: Mapping[str, float]
    add_special_tokens: bool = False
    skip_special_tokens: bool = False


def write_settings(model: HfModel, bias: Tensor, folder: Path) -> None:
    """Write the three files into the model's folder; `bias` are the logit biases `[vocabulary]`.

    Raises:
        ConfigError: the bias cannot be sent over HTTP.
    """
    trtllm = asdict(TrtllmArgs(max_seq_len=model.positions))
    vllm = {name.replace("_", "-"): value for name, value in asdict(VllmArgs(max_model_len=model.positions)).items()}
    write_yaml(folder / "trtllm.yaml", trtllm, "trtllm-serve FOLDER --config FOLDER/trtllm.yaml")
    write_yaml(folder / "vllm.yaml", vllm, "vllm serve FOLDER --config FOLDER/vllm.yaml")
    (folder / "request.json").write_text(json.dumps(asdict(completion_request(model, bias)), indent=1) + "\n")


def completion_request(model: HfModel, bias: Tensor) -> CompletionRequest:
    """Return the fixed fields of a completion request, from the model's generation settings and its bias."""
    return CompletionRequest(
        temperature=model.generation["temperature"],
        top_p=model.generation["top_p"],
        top_k=model.generation["top_k"],
        stop_token_ids=tuple(model.generation["eos_token_id"]),
        logit_bias=sparse_bias(bias),
    )


def sparse_bias(bias: Tensor) -> dict[str, float]:
    """Return the bias `[vocabulary]` as servers take it: by id, for ids that may be sampled, raised by `SHIFT`."""
    allowed = bias.isfinite().nonzero()[:, 0].tolist()
    sparse = {str(i): float(bias[i]) + SHIFT for i in allowed}
    largest = max(map(abs, sparse.values()), default=0.0)
    if not sparse or largest > LARGEST:
        raise ConfigError(
            f"the language model's head bias, raised by {SHIFT:g}, reaches {largest:g} over {len(sparse)} ids; "
            f"the limit is {LARGEST:g}. Use the bias in the process (embedding_bias) instead"
        )
    return sparse


def write_yaml(path: Path, values: Mapping[str, Any], command: str) -> None:
    """Write the settings as YAML, headed by the command that reads them."""
    import yaml

    path.write_text(f"# {command}\n" + yaml.safe_dump(dict(values), sort_keys=False))
