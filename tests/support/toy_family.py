"""A fourth family, written from CONTRIBUTING.md: every letter of a text is a tone of 50 ms.

One stage turns letters into tones, one host step turns texts into letters; there is no language model. A checkpoint is
`toy.json` (sample rate, letters, partials) and `toy.pt` (the strength of each partial, one row a letter).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritone.calls import FilesRead
from tritone.errors import CheckpointError, InvalidRequest
from tritone.lm.description import NoLm
from tritone.request.batch import answer, stack
from tritone.request.fields import check_known, read_text
from tritone.stage import Arrays, Axis, Call, Family, Host, Scaled, Stage, Tensor

BATCH, LETTERS, SPOKEN = Axis("batch", 1, 1, 4), Axis("letters", 1, 12, 64), Axis("spoken_letters", 1, 12, 64)
REQUEST = (Tensor("target_text", "bytes", (1, 1)),)
PUBLISHED = {"sample_rate": 8000, "alphabet": "abcdefghijklmnopqrstuvwxyz ", "partials": 3}


def family(model_dir: Path) -> Family:
    """Return the description of the checkpoint in `model_dir`."""
    try:
        config = json.loads((model_dir / "toy.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model_dir / 'toy.json'} cannot be read ({error})") from error
    return describe(config, lambda: network(config, model_dir / "toy.pt"))


def published(_kind: str) -> Family:
    """Return the description at the published sizes, without weights."""
    return describe(PUBLISHED, None)


def describe(config: dict[str, Any], build: Callable[[], Any] | None) -> Family:
    """Return the family of a configuration; `build` returns the loaded network."""
    size = samples(config)
    stage = Stage(
        "tones",
        (Tensor("letter", "int64", (BATCH, LETTERS), values=(0, len(config["alphabet"]))),),
        (Tensor("wave", "float32", (BATCH, Scaled(size, LETTERS))),),
        build,
    )
    waveform = Tensor("waveform", "float32", (1, Scaled(size, SPOKEN)))

    def speak(
        call: Call, _llm: Any, requests: list[Arrays], _left: Sequence[Callable[[], bool]] = (), /
    ) -> Sequence[Arrays | Exception]:
        return whole(call, requests, config)

    def synthesize(
        call: Call, _llm: Any, request: Arrays, cancelled: Callable[[], bool] = lambda: False, /
    ) -> Iterator[np.ndarray]:
        return stream(call, request, config, cancelled)

    return Family(
        name="toy",
        stages=(stage,),
        lm=NoLm(),
        request=REQUEST,
        response=(waveform,),
        synthesize=synthesize,
        hosts=(Host("speak", REQUEST, (waveform,), speak, ("tones",)),),
        settings={"sample_rate": config["sample_rate"], "speakers": ()},
        files=lambda: FilesRead(("toy.json", "toy.pt")),
    )


def samples(config: dict[str, Any]) -> int:
    """Return the samples of a letter."""
    return int(config["sample_rate"]) // 20


def whole(call: Call, requests: list[Arrays], config: dict[str, Any]) -> list[Any]:
    """Return the waveform of each request, or its error, from one padded batch."""
    results = [answer(read_letters, request, config) for request in requests]
    good = [index for index, result in enumerate(results) if isinstance(result, np.ndarray)]
    if good:
        waves = call("tones", letter=stack([results[index] for index in good]))["wave"]
        for wave, index in zip(waves, good, strict=True):
            results[index] = {"waveform": wave[None, : results[index].shape[1] * samples(config)]}
    return results


def stream(call: Call, request: Arrays, config: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[np.ndarray]:
    """Yield the waveform `[samples]` letter by letter."""
    for letter in read_letters(request, config)[0]:
        if cancelled():
            return
        yield call("tones", letter=letter.reshape(1, 1))["wave"][0]


def read_letters(request: Arrays, config: dict[str, Any]) -> np.ndarray:
    """Return the text's letters int64 `[1, letters]`; InvalidRequest for a text that cannot be spoken."""
    check_known(request, REQUEST)
    text, alphabet = read_text(request, "target_text").lower(), config["alphabet"]
    letters = [alphabet.index(letter) for letter in text if letter in alphabet]
    if not 1 <= len(letters) <= LETTERS.hi:
        raise InvalidRequest("target_text", f"has {len(letters)} letters; send 1 to {LETTERS.hi}")
    return np.array([letters], np.int64)


def network(config: dict[str, Any], path: Path | None = None) -> Any:
    """Return the torch module, with the weights in `path` or random ones."""
    import torch
    from torch import Tensor as Weights
    from torch import nn

    from tritone.checkpoint.weights import load_strict, read_state

    class Tones(nn.Module):
        table: Weights

        def __init__(self) -> None:
            super().__init__()
            letters, partials = len(config["alphabet"]), config["partials"]
            self.strength = nn.Embedding(letters, partials)
            pitch = 200 * 2 ** (torch.arange(letters) / 12)
            time = torch.arange(samples(config)) / config["sample_rate"]
            phase = pitch[:, None, None] * torch.arange(1, partials + 1)[:, None] * time
            self.register_buffer("table", torch.sin(2 * torch.pi * phase) * torch.sin(torch.pi * time * 20))

        def forward(self, letter: Weights) -> Weights:
            waves = (self.strength(letter).sigmoid()[..., None] * self.table[letter]).sum(2)
            return 0.2 * waves.flatten(1)

    module = Tones()
    if path is not None:
        load_strict(module, read_state(path), path)
    return module.eval()


def write_checkpoint(folder: Path) -> Path:
    """Write a checkpoint with random weights into the folder and return it."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.json").write_text(json.dumps(PUBLISHED))
    torch.manual_seed(0)
    torch.save(network(PUBLISHED).state_dict(), folder / "toy.pt")
    return folder
