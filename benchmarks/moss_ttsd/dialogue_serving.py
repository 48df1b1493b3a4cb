"""MOSS-TTSD on the real server with a language model of released width: first sound, speed, and how streams share.

    python benchmarks/moss_ttsd/dialogue_serving.py CODEC [--layers 2] [--seconds 8] [--folder DIR] [--most 4]

The language model has the released 2048 channels and 152697 ids, as many layers as asked for (28 were released) and
random weights that always speak; the codec is the one in the folder CODEC. Everything is written below /var/tmp and
removed again, or below DIR and used again. Numbers go into build/benchmarks/dialogue_serving.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.memory import PeakMemory
from benchmarks.report import stamp
from benchmarks.timing import Utterance, summarise
from tritone.families.moss_ttsd.lm.config import RELEASED

FRESH = Path(__file__).resolve().parents[2] / "build" / "benchmarks" / "dialogue_serving.json"
TEXT = "[S1]The birch canoe slid on the smooth planks. [S2]It did, and nobody saw it."


SHARD = 1_000_000_000
"""Bytes after which a file of weights is closed: a model larger than the memory left can be written."""


def write_lm(folder: Path, layers: int) -> None:
    """A language model of released width in `folder`, whose random rows are nearly always speech."""
    import torch
    from safetensors.torch import save_file

    from tritone.families.moss_ttsd.lm.network import AsteroidLM

    config = replace(RELEASED, num_hidden_layers=layers)
    torch.manual_seed(0)
    with torch.device("meta"):
        keys = {key: value.shape for key, value in AsteroidLM(config).state_dict().items()}
    first, last = config.speech_tokens
    shard: dict[str, torch.Tensor] = {}
    for index, (key, shape) in enumerate(keys.items()):
        value = shard[key] = torch.ones(shape)
        if "embedding_list" in key:
            value.normal_(std=0.02)
        elif value.ndim == 2:
            value.uniform_(-(shape[1] ** -0.5), shape[1] ** -0.5)
        if "embedding_list.0" in key:
            value[first:last].normal_(std=0.2)
        if index == len(keys) - 1 or sum(one.nbytes for one in shard.values()) > SHARD:
            save_file(shard, folder / f"model-{index:05d}.safetensors")
            shard = {}
    entries = {key: value for key, value in asdict(config).items() if key not in ("speech_tokens", "speech_eos")}
    entries |= {"model_type": "moss_ttsd", "speech_token_range": list(config.speech_tokens)}
    (folder / "config.json").write_text(json.dumps(entries))
    sampling = {"temperature": 1.0, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1}
    entries = {"do_samples": [True] * config.channels, "layers": [sampling] * config.channels}
    (folder / "generation_config.json").write_text(json.dumps(entries))


def ask(port: int, seconds: float, seed: int, stream: bool) -> Utterance:
    """Return one request through the streaming entry or the ensemble, timed."""
    import queue

    from tritonclient import grpc

    client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
    tensors = []
    for name, array, kind in (
        ("target_text", np.array([[TEXT.encode()]], object), "BYTES"),
        ("max_seconds", np.array([[seconds]], np.float32), "FP32"),
        ("seed", np.array([[seed]], np.int64), "INT64"),
    ):
        tensor = grpc.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    sent = time.monotonic()
    if not stream:
        wave = client.infer("moss_ttsd", tensors).as_numpy("waveform")
        return Utterance(sent, (time.monotonic(),), (wave.size,))
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((time.monotonic(), result, error)))
    client.async_stream_infer("moss_ttsd_stream", tensors, enable_empty_final_response=True)
    arrivals, samples = [], []
    while True:
        at, result, error = answers.get(timeout=600)
        if error is not None:
            raise error
        if result.get_response().parameters["triton_final_response"].bool_param:
            break
        arrivals.append(at)
        samples.append(result.as_numpy("waveform").size)
    client.stop_stream()
    return Utterance(sent, tuple(arrivals), tuple(samples))


def level(port: int, rate: int, seconds: float, count: int, stream: bool) -> dict[str, object]:
    """So many requests at once, summed up."""
    began = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(lambda seed: ask(port, seconds, seed, stream), range(count)))
    return summarise(found, time.monotonic() - began, rate)


def main(arguments: list[str] | None = None) -> int:
    """Build, serve, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path, help="folder with the codec's files and tokenizer.json")
    parser.add_argument("--layers", type=int, default=2, help="of the language model (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of speech a request (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for checkpoint and build, kept (default: one that is removed)")
    parser.add_argument("--most", type=int, default=4, help="requests at once (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=FRESH, help="default: %(default)s")
    args = parser.parse_args(arguments)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    from tritone.serve import parse, start
    from tritone.supervisor.locate import free_ports

    with contextlib.ExitStack() as stack:
        name = args.folder or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="tritone-dialogue-", dir="/var/tmp")
        )
        folder = Path(name) / "checkpoint"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            for file in (*args.codec.glob("*okenizer*"), *args.codec.glob("codec")):
                (shutil.copytree if file.is_dir() else shutil.copyfile)(file, folder / file.name)
            write_lm(folder, args.layers)
        ports = free_ports()
        began = time.monotonic()
        options = [f"--{key}-port={port}" for key, port in vars(ports).items()]
        family, server = start(
            parse([str(folder), f"--build-dir={name}/build", "--threads=1", "--timeout=1800", *options])
        )
        found: dict[str, Any] = {"ready_after": round(time.monotonic() - began, 1)}
        rate = int(family.settings["sample_rate"])
        with server, PeakMemory(server.triton.process.pid if server.triton.process else None) as memory:
            for stream in (False, True):
                for count in sorted({1, args.most}):
                    found[f"{'stream' if stream else 'whole'} x {count}"] = level(
                        ports.grpc, rate, args.seconds, count, stream
                    )
            found |= memory.result()
    facts = {"layers": args.layers, "seconds": args.seconds, "cores": os.cpu_count(), "load": os.getloadavg()}
    args.json.write_text(json.dumps(stamp() | facts | found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
