"""CPU seconds of one Bert-VITS2 utterance on one thread: 80 phones, 5.6 s of speech, stage by stage.

    python benchmarks/bert_vits2/inference.py [CHECKPOINT] [--build FOLDER] [--repeats 5]

Without a checkpoint, one of the published sizes is written with random weights. Three variants are timed in turns, so
that a busy machine slows all of them: the generator's own modules in eager torch, as in training and in the published
code; the stages in torch; the exported stages in onnxruntime. The result is the CPU time of the fastest repeat. With
random weights, durations would be meaningless, so every phone has three frames.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.report import FRESH, Table, write_report
from tritone.build.layout import stage_path
from tritone.catalog import open_family
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.errors import TritoneError
from tritone.families.bert_vits2.config import BertVits2Config, read_config
from tritone.families.bert_vits2.locate import generator_file
from tritone.stage import Arrays, Call, Family, Scaled

PHONES, HELD = 161, 3
"""80 phones with blanks, and the frames of each: 483 frames of 512 samples are 5.6 s."""


def random_checkpoint(folder: Path) -> Path:
    """Return the folder with a checkpoint of the published sizes and random weights."""
    import torch

    from tritone.families.bert_vits2.networks.generator import Generator

    config = BertVits2Config()
    folder.mkdir(parents=True, exist_ok=True)
    sections = {"model": dataclasses.asdict(config.model), "data": dataclasses.asdict(config.data)}
    (folder / "config.json").write_text(json.dumps({**sections, "version": config.version}))
    torch.manual_seed(0)
    torch.save({"model": Generator(config, posterior=False).state_dict(), "iteration": 0}, folder / "G_0.pth")
    return folder


def inputs(family: Family) -> dict[str, Arrays]:
    """Return random inputs of each stage at the sizes of the utterance."""
    sizes = {"batch": 1, "phones": PHONES, "frames": PHONES * HELD, "window_frames": PHONES * HELD}
    return {stage.name: stage.example(sizes) for stage in family.stages}


def eager(folder: Path) -> Call:
    """Return a Call on the generator's own modules."""
    import torch

    from tritone.families.bert_vits2.networks.weights import load_generator

    generator = load_generator(generator_file(folder), read_config(folder / "config.json"))

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        given = {key: torch.from_numpy(value) for key, value in arrays.items()}
        g, x = given.get("g"), given.get("x")
        mask = torch.ones(1, 1, next(iter(given.values())).shape[-1])
        text = [given[key] for key in ("t", "language", "bert_0", "bert_1", "bert_2") if key in given]
        runs: dict[str, Callable[[], Any]] = {
            "emb": lambda: generator.speaker(given["sid"]),
            "enc_p": lambda: generator.enc_p(x, mask, *text, g),
            "sdp": lambda: generator.sdp(x, mask, given["zin"], g),
            "dp": lambda: generator.dp(x, mask, g),
            "flow": lambda: generator.flow(given["z_p"], mask, g),
            "dec": lambda: generator.dec(given["z_in"], g),
        }
        with torch.inference_mode():
            runs[stage_name]()
        return {}

    return call


def measure(calls: dict[str, Call], given: dict[str, Arrays], repeats: int) -> list[dict[str, Any]]:
    """Return the CPU seconds of each stage and call: the fastest of `repeats` turns after a warm-up turn."""
    rows: list[dict[str, Any]] = []
    for stage, arrays in given.items():
        best = dict.fromkeys(calls, float("inf"))
        for turn in range(repeats + 1):
            for name, call in calls.items():
                began = time.process_time()
                call(stage, **arrays)
                if turn:
                    best[name] = min(best[name], time.process_time() - began)
        rows.append({"stage": stage, **{name: round(seconds, 4) for name, seconds in best.items()}})
    total = {name: round(sum(row[name] for row in rows), 4) for name in calls}
    return [*rows, {"stage": "all", **total}]


def build_onnx(folder: Path, build: Path) -> None:
    """Export the checkpoint's stages unless they are in the build folder."""
    from tritone.export import build_engines

    if not all(stage_path(build, stage.name).is_file() for stage in open_family(folder).stages):
        build_engines.main(["--model-dir", str(folder), "--out", str(build), "--formats", "onnx", "--quick"])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after an error on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--build", type=Path, help="folder of the exported files (default: a temporary one)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=FRESH, help="where results go (default %(default)s)")
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = options.checkpoint or random_checkpoint(Path(scratch) / "random")
            build = options.build or Path(scratch) / "build"
            build_onnx(folder, build)
            family = open_family(folder)
            calls = {
                "eager": eager(folder),
                "torch": torch_call(family.stages),
                "onnxruntime": onnx_call(build, family.stages),
            }
            rows = measure(calls, inputs(family), options.repeats)
        except TritoneError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    samples = family.response[0].shape[1]
    assert isinstance(samples, Scaled)
    seconds = PHONES * HELD * samples.factor / family.settings["sample_rate"]
    settings = {"phones": PHONES, "seconds_of_speech": round(seconds, 2), "threads": 1, "repeats": options.repeats}
    cells = [[row["stage"], *(row[name] for name in calls)] for row in rows]
    table = Table("CPU seconds on one thread", ["stage", *calls], cells)
    print(
        write_report(
            "bert_vits2_inference",
            "One Bert-VITS2 utterance",
            {**settings, "stages": rows},
            [table],
            None,
            options.folder,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
