"""Convert a language model to a folder that transformers, TensorRT-LLM and vLLM load, and such a folder back.

    tritone convert huggingface checkpoints/nano --out build/nano/llm/huggingface
    tritone convert huggingface checkpoints/nano --out llm.pt --back build/nano/llm/huggingface

Both directions keep every tensor bit for bit. Two files beside the causal LM hold what it cannot: the bias to be added
to the logits, without which ids other than speech can be sampled, and the tensors only the way back needs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.build.disk import scratch_folder
from tritone.catalog import open_family
from tritone.checkpoint import documents
from tritone.cli.parser import Parser
from tritone.errors import ArtifactError, ConfigError, TritoneError
from tritone.lm.description import CausalLm
from tritone.lm.hf_model import BIAS, EXTRA, IDS, HfModel, HfWeights, folder_session, identical

if TYPE_CHECKING:
    from torch import Tensor

    from tritone.parity.compare import Row

TOOLS = ("torch", "transformers", "safetensors", "tokenizers")
DTYPES = ("bfloat16", "float16", "float32")
WEIGHTS = "model.safetensors"


def export_llm(llm: CausalLm, folder: Path, dtype: str = "bfloat16", seed: int = 0) -> list[Row]:
    """Write the model to `folder` (replaced in one step); return the comparison of its logits with the torch module's.

    Args:
        dtype: the type engines compute in, for `config.json`; the weights stay in the checkpoint's own dtype.

    Raises:
        ArtifactError: a tensor read back from the folder differs from the checkpoint's; nothing is written.
    """
    from tritone.export import to_trtllm

    if dtype not in DTYPES:
        raise ConfigError(f"unknown language model dtype {dtype!r}; there are {', '.join(DTYPES)}")
    model = described(llm)
    state = model.read()
    weights = model.split(state)
    with scratch_folder(folder.parent, folder.name) as scratch:
        part = scratch / folder.name
        part.mkdir()
        write_weights(weights, part)
        # Older versions of transformers read `torch_dtype`, newer ones `dtype`.
        for name, value in (
            ("config", {**model.config, "torch_dtype": dtype, "dtype": dtype}),
            ("generation_config", model.generation),
            ("tokenizer", model.tokenizer),
            ("tokenizer_config", model.tokenizer_config),
            (Path(IDS).stem, {"first": model.first, "rows": model.rows, "segments": model.segments}),
        ):
            text = json.dumps(value, ensure_ascii=False, indent=None if name == "tokenizer" else 1)
            (part / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        to_trtllm.write_settings(model, weights.bias, part)
        del weights  # gigabytes at full size
        require_same(state, model.join(read_weights(model, part)), folder)
        for path in part.iterdir():
            path.chmod(0o644)  # safetensors lets only the owner read
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    del state
    return [compare(llm, model, folder, seed)]


def compare(llm: CausalLm, model: HfModel, folder: Path, seed: int) -> Row:
    """Return the comparison of the folder's logits in float32, bias added, with the torch module's."""
    import numpy as np

    from tritone.parity.compare import compare_llm

    # Rows of the embedding that no token stands for exist in the reference alone.
    ids = np.concatenate([np.arange(first, first + count) for first, _, count in model.segments])
    return compare_llm(llm, folder_session(model, folder), seed, form="huggingface", prompt_ids=ids)


def import_llm(llm: CausalLm, folder: Path, path: Path) -> dict[str, Tensor]:
    """Write the folder's model as the checkpoint's own state_dict to `path`, and return it.

    Raises:
        ArtifactError: a file is missing, or the folder's model has another type or size than the checkpoint's.
    """
    from tritone.checkpoint.weights import write_state

    model = described(llm)
    state = model.join(read_weights(model, folder))
    write_state(path, state)
    return state


def described(llm: CausalLm) -> HfModel:
    """Return the model's description for transformers."""
    if llm.huggingface is None:
        raise ConfigError(
            f"language model {llm.name} has no layout for transformers; TensorRT-LLM and vLLM cannot run it"
        )
    model: HfModel = llm.huggingface()
    return model


def write_weights(weights: HfWeights, folder: Path) -> None:
    """Write the causal LM, its logit bias, and the tensors only the way back needs."""
    from safetensors.torch import save_file

    save_file(weights.model, folder / WEIGHTS, metadata={"format": "pt"})
    save_file({"logit_bias": weights.bias}, folder / BIAS)
    save_file(weights.extra, folder / EXTRA, metadata=weights.notes)


def read_weights(model: HfModel, folder: Path) -> HfWeights:
    """Return the weights in the folder; a causal LM trained since may be saved in several files."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, dict[str, Tensor]] = {}
    notes: dict[str, str] = {}
    try:
        require_kind(model, read_json(folder / "config.json"), folder)
        parts = sorted(folder.glob("model*.safetensors"))
        for path in (*parts, folder / BIAS, folder / EXTRA):
            with safe_open(path, framework="pt") as file:
                group = path.name if path.name in (BIAS, EXTRA) else WEIGHTS
                tensors.setdefault(group, {}).update({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
                notes |= file.metadata() or {}
    except FileNotFoundError as error:
        missing = next(n for n in ("config.json", BIAS, EXTRA) if not (folder / n).is_file())
        raise ArtifactError(f"{folder} has no {missing}; {REASONS[missing]}") from error
    except SafetensorError as error:
        raise ArtifactError(f"{folder} has a damaged file ({error}); export it again") from error
    if not parts:
        raise ArtifactError(f"{folder} has no {WEIGHTS}; {REASONS['config.json']}")
    rows = int(model.config["vocab_size"])
    bias = tensors[BIAS].get("logit_bias")
    head = slice(model.first, model.first + model.rows)
    if bias is None or tuple(bias.shape) != (rows,) or not bias[head].isfinite().all():
        raise ArtifactError(f"{folder / BIAS} is not the bias of this model's {rows} logits; {REASONS[BIAS]}")
    require_rows(tensors[WEIGHTS], rows, folder)
    return HfWeights(tensors[WEIGHTS], bias, tensors[EXTRA], notes)


REASONS = {
    "config.json": "give a folder written by this command or by a trainer of transformers",
    BIAS: "it holds the head's bias, which the model itself cannot: copy the file from the folder this one was "
    "trained from, or export the checkpoint again",
    EXTRA: "it holds tensors that a causal LM cannot: copy the file from the folder this one was trained from, or "
    "export the checkpoint again",
}


def require_kind(model: HfModel, config: Mapping[str, Any], folder: Path) -> None:
    """Raise ArtifactError unless the folder's `config.json` has the checkpoint's type of model and vocabulary."""
    kind, needed_kind = config.get("model_type"), model.config["model_type"]
    if kind != needed_kind:
        raise ArtifactError(
            f"{folder} holds a model of type {kind!r}; the checkpoint's language model is {needed_kind!r}"
        )
    rows, needed = config.get("vocab_size"), model.config["vocab_size"]
    if rows != needed:
        raise ArtifactError(
            f"{folder} has a vocabulary of {rows}, the checkpoint of {needed}; the folder belongs to another checkpoint"
        )


def require_rows(tensors: Mapping[str, Tensor], rows: int, folder: Path) -> None:
    """Raise ArtifactError unless embedding and head of the causal LM exist and have the vocabulary's rows."""
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        actual = tensors[key].shape[0] if key in tensors else "no"
        if actual != rows:
            raise ArtifactError(f"{folder}: {key} has {actual} rows; the checkpoint's vocabulary needs {rows}")


def require_same(state: Mapping[str, Tensor], copy: Mapping[str, Tensor], folder: Path) -> None:
    """Raise ArtifactError, naming the first tensor that differs, unless all are identical bit for bit."""
    for key in [*state, *(key for key in copy if key not in state)]:
        if key not in state or key not in copy or not identical(state[key], copy[key]):
            raise ArtifactError(f"{folder} was not written: {key} read back differs from the checkpoint")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file; FileNotFoundError if there is none."""
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        return documents.read_object(path, kind=ArtifactError)
    except ArtifactError as error:
        raise ArtifactError(f"{error}; {REASONS['config.json']}") from error


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = Parser(prog="tritone convert huggingface", description=__doc__)
    parser.add_checkpoint()
    parser.add_argument("--out", type=Path, required=True, help="the folder to write, or with --back the .pt file")
    parser.add_argument("--back", type=Path, metavar="FOLDER", help="convert this folder to the checkpoint's own file")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="type that engines compute in")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Convert in one direction; return the exit status."""
    args = parse(arguments)
    try:
        llm = open_family(args.model_dir).causal_lm
        if llm is None:
            raise ConfigError(f"the checkpoint {args.model_dir} has no language model")
        if args.back:
            import_llm(llm, args.back, args.out)
        else:
            bad = [row.problem for row in export_llm(llm, args.out, args.dtype) if not row.passed]
            if bad:
                raise ArtifactError(f"{args.out} does not compute the same as the checkpoint: {'; '.join(bad)}")
        print(f"wrote {args.out}")
    except (TritoneError, OSError) as error:
        problem = error if isinstance(error, TritoneError) else f"{args.out} cannot be written ({error})"
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
