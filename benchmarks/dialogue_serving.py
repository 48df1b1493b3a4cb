"""MOSS-TTSD on the real server with a language model of released width: first sound, speed, and how streams share.

    python benchmarks/dialogue_serving.py [--layers 2] [--seconds 8]

The language model has the released 2048 channels and 152697 ids but fewer layers, and random weights that always speak;
the codec is the one of the given folder or a small one. Everything is written below /var/tmp and removed again. Numbers
go into benchmarks/results/dialogue_serving.json.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import Utterance, summarise
from tritone.families.moss_ttsd.lm_config import RELEASED

RESULTS = Path(__file__).resolve().parent / "results" / "dialogue_serving.json"
TEXT = "[S1]The birch canoe slid on the smooth planks. [S2]It did, and nobody saw it."


def write_lm(folder: Path, layers: int) -> None:
    """A language model of released width in `folder`, whose random rows are nearly always speech."""
    import torch
    from safetensors.torch import save_file

    from tritone.families.moss_ttsd.lm import AsteroidLM

    config = replace(RELEASED, num_hidden_layers=layers)
    torch.manual_seed(0)
    state = AsteroidLM(config).state_dict()
    first, last = config.speech_tokens
    for key, value in state.items():
        if "embedding_list" in key:
            value.normal_(std=0.02)
    table = state["model.embedding_list.0.weight"]
    table[first:last].normal_(std=0.2)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    entries = {key: value for key, value in asdict(config).items() if key not in ("speech_tokens", "speech_eos")}
    entries |= {"model_type": "moss_ttsd", "speech_token_range": list(config.speech_tokens)}
    (folder / "config.json").write_text(json.dumps(entries))
    sampling = {"temperature": 1.0, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1}
    entries = {"do_samples": [True] * config.channels, "layers": [sampling] * config.channels}
    (folder / "generation_config.json").write_text(json.dumps(entries))


def ask(port: int, seconds: float, seed: int, stream: bool) -> Utterance:
    """One request through the streaming entry or the ensemble, timed."""
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
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    args = parser.parse_args(arguments)
    from tritone.serve import parse, start
    from tritone.server.locate import free_ports

    with tempfile.TemporaryDirectory(prefix="tritone-dialogue-", dir="/var/tmp") as name:
        folder = Path(name) / "checkpoint"
        folder.mkdir()
        for file in (*args.codec.glob("*okenizer*"), *args.codec.glob("codec")):
            (shutil.copytree if file.is_dir() else shutil.copyfile)(file, folder / file.name)
        write_lm(folder, args.layers)
        ports = free_ports()
        began = time.monotonic()
        options = [f"--{key}-port={port}" for key, port in vars(ports).items()]
        family, server = start(parse([str(folder), f"--build-dir={name}/build", "--threads=1", *options]))
        found: dict[str, Any] = {"ready_after": round(time.monotonic() - began, 1)}
        rate = int(family.settings["sample_rate"])
        with server:
            for stream, count in ((False, 1), (False, 4), (True, 1), (True, 4)):
                found[f"{'stream' if stream else 'whole'} x {count}"] = level(
                    ports.grpc, rate, args.seconds, count, stream
                )
    facts = {"layers": args.layers, "seconds": args.seconds, "cores": os.cpu_count(), "load": os.getloadavg()}
    args.json.write_text(json.dumps(facts | found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
