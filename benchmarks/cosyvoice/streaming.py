"""Streamed synthesis of a checkpoint: the cost of each chunk, and the largest difference from one pass under the mask.

    python benchmarks/cosyvoice/streaming.py checkpoints/nano
        [--build FOLDER] [--hops 25,50,100] [--seconds 24] [--speaker NAME]
    python benchmarks/cosyvoice/streaming.py CHECKPOINT
        --engine torch --speech random --left-chunks=4,-1 [--prompt SECONDS]

The same speech tokens are rendered in chunks and in one pass, with the same seed. One pass under a stream's
mask exists where the checkpoint's own mask is used: a bounded one, or, with `--left-chunks=-1`, the published one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import FRESH, Table, new_figure, write_report
from tritone.build.layout import default_folder
from tritone.catalog import open_family
from tritone.engines.open import engine_name, open_call
from tritone.engines.torch_run import TorchRun
from tritone.errors import TritoneError
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.v1.stream import HOP
from tritone.families.cosyvoice.speak.request import Prepared, registered
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.speak.tokens import segment_tokens, token_request
from tritone.families.cosyvoice.speak.whole import render, vocode
from tritone.families.cosyvoice.voices.speakers import read_voices
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.genai import genai_llm
from tritone.stage import Arrays, Call

TEXT = "The small boat drifted far beyond the harbour while the evening light was fading."
SEED = 1
EARLY, LATE = 3, 20
"""The chunks whose costs are compared, counted from 1; where there are not so many, the last full one."""


def long_speech(build: Path, checkpoint: Path, config: CosyVoiceConfig, voice: Voice, count: int) -> list[int]:
    """Return `count` speech tokens of one voice repeating the text."""
    llm = genai_llm(build)
    text = TextFrontend(checkpoint).encode(TEXT)
    speech: list[int] = []
    while len(speech) < count:
        prepared = Prepared([text], voice, 1.0, SEED + len(speech))
        speech += segment_tokens(llm, token_request(prepared, config), 0, config)
    return speech[:count]


def random_voice(config: CosyVoiceConfig, seconds: float) -> Voice:
    """Return a random voice whose prompt has that many seconds of random tokens and mel."""
    flow, rng = config.flow, np.random.default_rng(SEED)
    tokens = int(seconds * flow.token_frame_rate)
    frames = flow.frames(tokens)
    embedding, mel = rng.standard_normal(flow.spk_embed_dim), 2 * rng.standard_normal((frames, 80)) - 5
    token = rng.integers(0, flow.vocab_size, tokens)
    return Voice("random", embedding.astype(np.float32), speech_token=token, mel=mel.astype(np.float32))


class Timer:
    """A call that sums the CPU seconds spent in the networks of the flow's steps."""

    def __init__(self, call: Call) -> None:
        self._call, self.seconds = call, 0.0

    def __call__(self, stage_name: str, **arrays: np.ndarray) -> Arrays:
        start = time.process_time()
        outputs = self._call(stage_name, **arrays)
        self.seconds += time.process_time() - start if stage_name.startswith("flow_estimator") else 0.0
        return outputs


def timed(chunks: Iterator[np.ndarray], timer: Timer) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the chunks, and each one's wall seconds, CPU seconds, and CPU seconds in the flow's steps, `[3,
    chunks]`.
    """
    parts: list[np.ndarray] = []
    seconds: list[list[float]] = [[], [], []]
    clocks = time.perf_counter, time.process_time, lambda: timer.seconds
    start = [clock() for clock in clocks]
    for chunk in chunks:
        parts.append(chunk)
        for index, clock in enumerate(clocks):
            now = clock()
            seconds[index].append(now - start[index])
            start[index] = now
    return parts, np.array(seconds)


def measure(
    synthesizer: Synthesizer, speech: list[int], voice: Voice, hop: int, repeats: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the streamed waveform and the cost of its chunks: for every chunk the fastest of the repeats."""
    config, timer = synthesizer.config, Timer(synthesizer.call)
    stream = replace(synthesizer, call=timer, hop=hop)
    runs = [timed(stream.waveform(iter(speech), voice, SEED), timer) for _ in range(repeats)]
    parts = runs[0][0]
    wall, cpu, steps = np.min([seconds for _, seconds in runs], axis=0)
    late = min(LATE, len(speech) // hop - 1)
    own = config.flow.left_chunks
    return np.concatenate(parts), {
        "hop": hop,
        "left_chunks": own if own >= 0 else config.flow.stream_left_chunks,
        "chunks": len(parts),
        "seconds": wall.tolist(),
        "cpu_seconds": cpu.tolist(),
        "flow_cpu_seconds": steps.tolist(),
        "borders": np.cumsum([len(part) for part in parts]).tolist(),
        "first_ms": 1000 * wall[0],
        "late_chunk": late if late > EARLY else None,
        "late_over_early": float(wall[late - 1] / wall[EARLY - 1]) if late > EARLY else None,
        "late_over_early_cpu": float(cpu[late - 1] / cpu[EARLY - 1]) if late > EARLY else None,
        "late_over_early_flow": float(steps[late - 1] / steps[EARLY - 1]) if late > EARLY else None,
    }


def compare(
    synthesizer: Synthesizer,
    speech: list[int],
    voice: Voice,
    hops: Sequence[int],
    left_chunks: Sequence[int],
    repeats: int = 1,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return a streamed waveform, and for each hop and bound the cost of chunks and the difference from one pass."""
    whole: np.ndarray | None = None
    rows: list[dict[str, Any]] = []
    config = synthesizer.config
    own, chunked = config.flow.left_chunks, config.flow.estimator_chunk is not None
    for left in left_chunks:
        config = replace(config, flow=replace(config.flow, stream_left_chunks=left))
        for hop in hops:
            streamed, row = measure(replace(synthesizer, config=config), speech, voice, hop, repeats)
            row["largest_difference"] = None
            if chunked and (left < 0 or own >= 0):
                if whole is None:
                    mels = render(synthesizer.call, config, [(speech, voice)], streaming_mask=True)
                    (whole,) = vocode(synthesizer.call, config.hift, mels, [SEED])
                if streamed.shape != whole.shape:
                    raise TritoneError(f"hop {hop}: {len(streamed)} samples streamed, {len(whole)} in one pass")
                row["largest_difference"] = float(np.abs(streamed - whole).max())
            rows.append(row)
    return streamed, rows


def publish(name: str, whole: np.ndarray, rate: int, rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Write the three files; return the page."""
    figure, axes = new_figure(12, 4, columns=2)
    shown = min(len(whole), 6 * rate)
    axes[0].specgram(whole[:shown], NFFT=1024, noverlap=768, Fs=rate, vmin=-140, vmax=-20)
    for border in rows[0]["borders"]:
        if border < shown:
            axes[0].axvline(border / rate, color="white", linewidth=0.5, linestyle=":")
    axes[0].set_ylim(0, 8000)
    axes[0].set_xlabel(f"seconds; dotted: chunk borders at hop {rows[0]['hop']}")
    for row in rows:
        label = f"hop {row['hop']}, left chunks {row['left_chunks']}"
        axes[1].plot(np.arange(1, len(row["seconds"])), 1000 * np.array(row["seconds"][:-1]), label=label)
    axes[1].set_xlabel("chunk")
    axes[1].set_ylabel("milliseconds")
    axes[1].set_ylim(bottom=0)
    axes[1].legend()
    head = ["hop (tokens)", "left chunks", "chunks", "largest difference", "first chunk (ms)"]
    head += [f"late chunk / chunk {EARLY}", "the same in processor time", "of the flow's steps alone"]
    cells = [
        [
            *(row["hop"], row["left_chunks"], row["chunks"]),
            None if row["largest_difference"] is None else f"{row['largest_difference']:.1e}",
            *(row["first_ms"], row["late_over_early"], row["late_over_early_cpu"], row["late_over_early_flow"]),
        ]
        for row in rows
    ]
    caption = f"Streamed beside one pass under the same mask; the late chunk is number {LATE} or the last full one"
    table = Table(caption, head, cells)
    return write_report(name, "Streaming", {"rows": list(rows)}, [table], figure, folder)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--build", type=Path, help="folder of the exported files (default build/NAME)")
    parser.add_argument(
        "--engine", type=engine_name, choices=("onnxruntime", "torchscript", "torch"), default="onnxruntime"
    )
    parser.add_argument("--hops", help=f"tokens per chunk (default: 25,50,100; of v1 {HOP})")
    parser.add_argument("--left-chunks", help="chunks a stream looks back, -1 for all (default: the checkpoint's)")
    parser.add_argument("--seconds", type=float, default=24, help="length of the speech (default: %(default)g)")
    parser.add_argument("--speech", choices=("lm", "random"), default="lm", help="source of the speech tokens")
    parser.add_argument("--speaker", default="", help="a registered speaker (default: the first)")
    parser.add_argument("--prompt", type=float, help="seconds of a random voice's prompt, instead of a speaker")
    parser.add_argument("--steps", type=int, help="steps of the flow (default: the checkpoint's)")
    parser.add_argument("--repeats", type=int, default=1, help="streams to time; the fastest of every chunk counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="streaming", help="name of the report (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=FRESH)
    args = parser.parse_args(arguments)
    try:
        build = args.build or default_folder(args.checkpoint.resolve())
        family, config = open_family(args.checkpoint), load_config(args.checkpoint)
        if args.steps:
            config = replace(config, flow=replace(config.flow, steps=args.steps))
        if args.prompt is None:
            voice = registered(args.speaker, TextFrontend(args.checkpoint), read_voices(args.checkpoint))
        else:
            voice = random_voice(config, args.prompt)
        count = int(args.seconds * config.flow.token_frame_rate)
        if args.speech == "lm":
            speech = long_speech(build, args.checkpoint, config, voice, count)
        else:
            speech = np.random.default_rng(SEED).integers(0, config.flow.vocab_size, count).tolist()
        call = open_call(args.engine, family.stages, build, TorchRun(threads=args.threads), args.checkpoint)
        synthesizer = Synthesizer(call, {stage.name: stage for stage in family.stages}, config)
        hops = numbers(args.hops or ("25,50,100" if config.flow.estimator_chunk else str(HOP)))
        left_chunks = numbers(args.left_chunks or str(config.flow.stream_left_chunks))
        # Networks are opened when first used, and the first runs are slower.
        next(replace(synthesizer, hop=hops[0]).waveform(iter(speech), voice, SEED))
        streamed, rows = compare(synthesizer, speech, voice, hops, left_chunks, args.repeats)
    except (TritoneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(publish(args.name, streamed, config.sample_rate, rows, args.results))
    for row in rows:
        print({key: value for key, value in row.items() if not key.endswith("seconds") and key != "borders"})
    return 0


def numbers(text: str) -> list[int]:
    """Return the numbers of a list with commas."""
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
