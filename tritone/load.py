"""A checkpoint as one object that speaks in this process, on the engine of your choice.

model = load_model("checkpoints/nano", engine="onnxruntime")
wave = model.synthesize("The birch canoe slid on the smooth planks.", speaker=model.speakers[0], seed=1)
for chunk in model.stream("And this one starts sooner."): ...
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritone.audio.level import checked_chunks, checked_waveform
from tritone.build import layout, manifest
from tritone.build.targets import Selection
from tritone.catalog import open_family
from tritone.engines import gpu
from tritone.engines.open import ENGINES, FORMATS, check_choices, engine_name, open_call, open_llm
from tritone.engines.torch_run import TorchRun
from tritone.errors import ConfigError, EnvironmentProblem, InvalidRequest
from tritone.lm.description import CausalLm
from tritone.lm.genai import genai_llm
from tritone.lm.protocols import Llm
from tritone.stage import Arrays, Call, Family, Tensor

ON_CPU = "torch, torchscript and onnxruntime run on the CPU (device='cpu')"
ON_GPU = "torch, torchscript and tensorrt run on a GPU (device='cuda')"


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint; networks are opened when first used. Requests may run in several threads.

    Args:
        call: runs the family's stages; llm: opens sessions of its language model.
    """

    family: Family
    call: Call
    llm: Llm

    @property
    def sample_rate(self) -> int:
        """Samples of a waveform per second."""
        return int(self.family.settings["sample_rate"])

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the registered voices, as they were when the model was loaded."""
        return tuple(self.family.settings.get("speakers", ()))

    def synthesize(self, text: str = "", speaker: str = "", **request: Any) -> np.ndarray:
        """Return the whole waveform, float32 `[samples]`, by the order of steps that sees the whole utterance at once.

        Args:
            text: optional only in modes that take something else to say.
            speaker: a registered voice; "" for the first one, or the voice of `reference_wav`.
            request: other inputs of the family's requests by name (`seed=1`, `speed=1.2`, `reference_wav=samples`).

        Raises:
            InvalidRequest: names the input at fault.
            TritoneError: what the networks made is not finite, far beyond full scale, or silent.
        """
        if not self.family.hosts:
            chunks = list(self.stream(text, speaker, **request))
            return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        known = read_request(self.family, text, speaker, request)
        for host in self.family.hosts:
            given = {tensor.name: known[tensor.name] for tensor in host.inputs if tensor.name in known}
            result = host.run(self.call, self.llm, [given])[0]
            if isinstance(result, Exception):
                raise result
            known |= result
        return checked_waveform(known[self.family.response[0].name].reshape(-1))

    def stream(
        self, text: str = "", speaker: str = "", cancelled: Callable[[], bool] = lambda: False, **request: Any
    ) -> Iterator[np.ndarray]:
        """Yield chunks of the waveform, float32 `[samples]`, as early as possible.

        Takes what `synthesize` takes; the work ends soon after `cancelled()` is true.
        """
        arrays = read_request(self.family, text, speaker, request)
        for chunk in checked_chunks(self.family.synthesize(self.call, self.llm, arrays, cancelled), cancelled):
            yield chunk.reshape(-1)


def load_model(
    model_dir: str | Path,
    fp16: bool = False,
    device: str = "cpu",
    engine: str = "torch",
    build_dir: str | Path | None = None,
    threads: int = 1,
    dtype: str = "",
    attention: str = "",
) -> Model:
    """Return the checkpoint in `model_dir`, ready to speak.

    Args:
        fp16: float16 arithmetic inside the networks: autocast on torch, the fp16 files elsewhere.
        device: "cpu", "cuda", or "cuda:1" for a certain GPU.
        engine: "torch" needs the checkpoint alone; "torchscript", "onnxruntime" and "tensorrt" run what
            `tritone build` wrote. On a GPU the language model runs on torch, on a CPU on onnxruntime-genai.
        build_dir: folder of the exported networks (default: build/<checkpoint name>).
        threads: of each network on the CPU.
        dtype, attention: of the language model on torch, for checkpoints that have the choice, such as "bfloat16" and
            "sdpa"; "" for those that are exported.

    Raises:
        ConfigError: the combination is not supported; the message lists those that are.
        EnvironmentProblem: the GPU is missing, or torch cannot use it.
        CheckpointError: the checkpoint is missing, or a file of it is missing or damaged.
        ArtifactError: exported networks are missing or stale; the message has the command that builds them.
    """
    engine = engine_name(engine)
    index = check_choice(engine, device, fp16)
    check_choices(engine, dtype, attention, fp16)
    check_gpu(engine, index)
    folder = Path(model_dir)
    family = open_family(folder, dtype, attention, device)
    build = layout.default_folder(folder) if build_dir is None else Path(build_dir)
    run = TorchRun(device, threads, fp16)
    needed = selection(engine, fp16, index, build)
    if needed is not None:
        manifest.verify(build, family, folder, needed)
    call = open_call(engine, family.stages, build, run, folder)

    def open_causal(lm: CausalLm) -> Llm:
        if engine == "torch" or run.device != "cpu":
            return lm.open_torch(run)
        return genai_llm(build, threads=threads)

    return Model(family, call, open_llm(family, call, open_causal))


def check_choice(engine: str, device: str, fp16: bool) -> int | None:
    """Return the GPU's number, None for the CPU; ConfigError when engine, device and precision do not go together."""
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; there are {', '.join(ENGINES)}")
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise ConfigError(f"unknown device {device!r}; there are cpu, cuda, and cuda:1 for a certain GPU")
    if kind == "cuda":
        if engine == "onnxruntime":
            raise ConfigError(f"engine onnxruntime was asked for on {device}; here it computes on the CPU. {ON_GPU}")
        return int(number or 0)
    if engine == "tensorrt":
        raise ConfigError(f"engine tensorrt was asked for on the CPU; TensorRT computes on NVIDIA GPUs alone. {ON_CPU}")
    if fp16 and engine == "torch":
        raise ConfigError(
            "engine torch was asked for with fp16 on the CPU, where autocast makes it slower and less exact. Use "
            "fp16=False, or device='cuda'; engines onnxruntime and torchscript run their fp16 files on the CPU, "
            "for checking"
        )
    if fp16:
        warnings.warn(
            f"engine {engine} with fp16 on the CPU shows how the fp16 files sound; it is not faster than fp16=False",
            stacklevel=3,
        )
    return None


def check_gpu(engine: str, index: int | None) -> None:
    """Raise EnvironmentProblem unless this machine has the GPU and torch, which holds the tensors, can use it."""
    if index is None:
        return
    if not gpu.gpu(index):
        raise EnvironmentProblem(
            f"engine {engine} was asked for on CUDA device {index}, which this machine does not have; {ON_CPU}"
        )
    from tritone.engines.tensorrt import require_cuda

    require_cuda()


def selection(engine: str, fp16: bool, index: int | None, build: Path) -> Selection | None:
    """Return the artifacts that the engine needs; None when the checkpoint is enough."""
    precisions = ("fp16",) if fp16 else ("fp32",)
    if engine == "tensorrt":
        assert index is not None
        return Selection(("onnx", "tensorrt"), precisions, platform=engines_platform(build, index))
    if engine == "torch":
        return None
    files = FORMATS[engine]
    return Selection((files, "llm") if index is None else (files,), precisions)


def engines_platform(build: Path, index: int) -> str:
    """Return the platform of the build folder's plans if this GPU runs them, else the one to build them for."""
    here = gpu.found_platform(index)
    recorded = {entry.identity.platform for entry in manifest.read_manifest(build).values()} - {""}
    return next((name for name in sorted(recorded) if not gpu.mismatch(name, here)), "") or gpu.target_platform()


def read_request(family: Family, text: str, speaker: str, others: dict[str, Any]) -> Arrays:
    """Return the request's tensors by name, batch of one; what is None or "" is left out."""
    declared = {tensor.name: tensor for tensor in family.request}
    fields = {"target_text": text, "speaker": speaker, **others}
    arrays = {}
    for name, value in fields.items():
        if value is None or (isinstance(value, str) and not value):
            continue
        if name not in declared:
            raise InvalidRequest(name, f"no such input; inputs are {', '.join(declared)}")
        arrays[name] = read_value(declared[name], value)
    return arrays


def read_value(tensor: Tensor, value: Any) -> np.ndarray:
    """Return one input as `[1, n]`; InvalidRequest when it is not what the declaration takes."""
    if tensor.dtype == "bytes":
        if not isinstance(value, str):
            raise InvalidRequest(tensor.name, f"is a {type(value).__name__}; give a string")
        try:
            return np.array([[value.encode()]], object)
        except UnicodeEncodeError as error:
            half = f"U+{ord(value[error.start]):04X} at character {error.start + 1}"
            raise InvalidRequest(tensor.name, f"has half of a surrogate pair, {half}; give whole characters") from error
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.zeros(0, object)
    # Sound as an array of integers has another scale; a single integer is just a number.
    number = "f" if array.ndim else "fiu"
    kinds = "b" if tensor.dtype == "bool" else "iu" if tensor.dtype.startswith("int") else number
    if array.dtype.kind not in kinds or array.ndim > 2 or (array.ndim == 2 and len(array) != 1):
        given = f"{array.dtype} {list(array.shape)}"
        raise InvalidRequest(tensor.name, f"takes one number or one row of {tensor.dtype}, got {given}")
    if kinds == "iu" and array.size:
        low, high = int(np.iinfo(tensor.dtype).min), int(np.iinfo(tensor.dtype).max)
        if not low <= int(array.min()) <= int(array.max()) <= high:
            raise InvalidRequest(tensor.name, f"is beyond the {low} to {high} of {tensor.dtype}")
    return array.astype(tensor.dtype).reshape(1, -1)
