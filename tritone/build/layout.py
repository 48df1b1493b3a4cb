"""The layout of a build folder.

    onnx/<stage>.onnx  onnx/<stage>.fp16.onnx      fp32, and mixed fp16 made from it; each may have a `.data` file
    torchscript/<stage>.fp32.zip  .fp16.zip        under the stage's published name if it has one
    tensorrt/<stage>.fp32.plan  .fp16.plan         from the ONNX file of the same precision
    llm/int8/ int4/ fp32/                          the language model for onnxruntime-genai
    llm/huggingface/                               the language model for TensorRT-LLM and vLLM

A key is an artifact's path below the build folder, and its key in the manifest.
"""

from __future__ import annotations

from pathlib import Path

from tritone.stage import Stage


def default_folder(model_dir: str | Path) -> Path:
    """Return `build/<name of the checkpoint>` in the working directory, the build folder unless another is given."""
    return Path("build") / Path(model_dir).resolve().name


def stage_key(name: str, precision: str = "fp32") -> str:
    """Return the key of a stage's ONNX file."""
    return f"onnx/{name}.onnx" if precision == "fp32" else f"onnx/{name}.{precision}.onnx"


def stage_path(folder: str | Path, name: str, precision: str = "fp32") -> Path:
    """Return the path of a stage's ONNX file in a build folder."""
    return Path(folder) / stage_key(name, precision)


def data_file(path: Path) -> Path:
    """Return the file beside an ONNX file that holds the weights which do not fit into it; most have none."""
    return path.with_name(f"{path.name}.data")


def torchscript_key(stage: Stage, precision: str = "fp32") -> str:
    """Return the key of a stage's TorchScript file."""
    return f"torchscript/{stage.published or stage.name}.{precision}.zip"


def plan_key(name: str, precision: str = "fp16") -> str:
    """Return the key of a stage's TensorRT plan."""
    return f"tensorrt/{name}.{precision}.plan"


def llm_key(precision: str) -> str:
    """Return the key of the language model's folder."""
    return f"llm/{precision}"


def llm_path(folder: str | Path, precision: str) -> Path:
    """Return the path of the language model's folder in a build folder."""
    return Path(folder) / llm_key(precision)


def files_of(path: Path) -> list[Path]:
    """Return the files an artifact consists of: a file, a file and its data file, or the files of a folder."""
    paths = [path, data_file(path)] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in paths if file.is_file()]
