"""A corpus of seconds and networks of thousands of parameters, to train Bert-VITS2 through its own command line.

As a script, this is `python -m training` with these networks, for tests that start, kill and restart it.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

ROOT = Path(__file__).parents[3]
RATE, HOP = 44100, 32


def small_judges(shrink: int = 1) -> nn.Module:
    """Return wave discriminators with the published structure and four channels instead of 47 million parameters."""
    from training.bert_vits2.networks.waveform_discriminators import PERIODS, ConvJudge, MultiPeriodDiscriminator

    judges = MultiPeriodDiscriminator.__new__(MultiPeriodDiscriminator)
    nn.Module.__init__(judges)
    scale = ConvJudge([nn.Conv1d(1, 4, 15, 1, 7), nn.Conv1d(4, 4, 41, 4, 20, groups=2)], nn.Conv1d(4, 1, 3, 1, 1))
    periods = [
        ConvJudge([nn.Conv2d(1, 4, (5, 1), (3, 1), (2, 0))], nn.Conv2d(4, 1, (3, 1), 1, (1, 0))) for _ in PERIODS
    ]
    judges.discriminators = nn.ModuleList([scale, *periods])
    return judges


def write_corpus(folder: Path, utterances: int = 9, equal: bool = False) -> dict[str, Any]:
    """Write tones, filelists and a configuration of tiny networks without BERT and WavLM; return the configuration.

    The last recording is held out. With `equal`, all have the same numbers of phones and frames.
    """
    from tritone.audio.wav import write_wav

    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(0), []
    for i in range(utterances):
        phones = ["_", *rng.choice(["ah", "b", "d", "iy", "m", "s"], 4 if equal else int(rng.integers(2, 6))), "_"]
        samples = HOP * (120 if equal else int(rng.integers(60, 180)))
        pitch = 2 * np.pi * (110 + 20 * i) * np.arange(samples) / RATE
        wave = 0.3 * np.sin(pitch) + 0.1 * np.sin(3 * pitch) + 0.01 * rng.standard_normal(samples)
        path = folder / f"{i}.wav"
        write_wav(path, wave.astype(np.float32), RATE)
        tones, word2ph = " ".join("0" * len(phones)), f"1 {len(phones) - 2} 1"
        lines.append(f"{path}|{'ab'[i % 2]}|EN|words|{' '.join(phones)}|{tones}|{word2ph}")
    (folder / "train.list").write_text("\n".join(lines[:-1]) + "\n")
    (folder / "val.list").write_text(lines[-1] + "\n")
    document: dict[str, Any] = json.loads((ROOT / "tests/golden/bert_vits2/config_tiny.json").read_text())
    document["data"] |= {
        "training_files": str(folder / "train.list"), "validation_files": str(folder / "val.list"),
        "n_speakers": 2, "spk2id": {"a": 0, "b": 1},
    }  # fmt: skip
    document["train"] = {
        "batch_size": 2, "segment_size": 32 * HOP, "bucket_boundaries": [32, 120, 200], "bert_languages": [],
        "wavlm_discriminator": False, "workers": 0, "log_interval": 1, "eval_interval": 4, "save_interval": 2,
        "epochs": 3, "lr": 1e-3, "lr_decay": 0.9, "spectrogram_cache": False, "eval_utterances": 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(document))
    return document


def write_config(folder: Path, document: dict[str, Any], **train: Any) -> Path:
    """Write the document with changes to its `train` as `folder/config.json`, and return the path."""
    path = folder / "config.json"
    path.write_text(json.dumps(document | {"train": document["train"] | train}))
    return path


def environment() -> dict[str, str]:
    """Return the environment of processes that run this file."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


def noise_of_rows(batch: Any, channels: int, align: bool = True) -> Any:
    """Return noise like `draw_noise`, except that each row's noise depends on its utterance alone."""
    import torch

    from tritone.families.bert_vits2.networks.generator import TrainingNoise

    frames, phones = batch.spectrogram.shape[2], batch.phones.shape[1]
    rows: list[list[Any]] = []
    for wave in batch.wave:
        draw = torch.Generator().manual_seed(zlib.crc32(wave.numpy().tobytes()))
        sizes = [(channels, frames), (2, phones), (2, phones)]
        rows.append([*(torch.randn(size, generator=draw) for size in sizes), torch.rand((), generator=draw)])
    posterior, duration, sample, slices = (torch.stack(column) for column in zip(*rows, strict=True))
    return TrainingNoise(posterior, None, duration, sample, slices)


if __name__ == "__main__":
    from training.bert_vits2 import build_run, gan_step

    build_run.MultiPeriodDiscriminator = small_judges  # type: ignore[misc,assignment]
    if os.environ.get("CHANCE") == "of rows":
        gan_step.draw_noise = noise_of_rows  # type: ignore[assignment]
        nn.Dropout.forward = lambda self, x: x  # type: ignore[method-assign]
    from training.__main__ import main

    main(sys.argv[1:])
