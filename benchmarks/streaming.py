"""Streamed synthesis beside one pass on the exported networks: the largest difference, and the cost of each chunk.

    python benchmarks/streaming.py checkpoints/nano [--build FOLDER] [--hops 25,50,100] [--seconds 24] [--speaker NAME]

The same speech tokens are rendered in chunks and in one pass under the streaming mask, with the same seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import RESULTS, Table, new_figure, write_report
from tritone.call import onnx_call
from tritone.catalog import open_family
from tritone.errors import TritoneError
from tritone.families.cosyvoice.checkpoint import load_config
from tritone.families.cosyvoice.config import CosyVoiceConfig
from tritone.families.cosyvoice.request import Prepared, registered
from tritone.families.cosyvoice.speakers import Voice, read_voices
from tritone.families.cosyvoice.synthesize import never, speech_tokens, stream_waveform, whole_mel, whole_waveform
from tritone.families.cosyvoice.text import TextFrontend
from tritone.lm.genai import genai_llm
from tritone.stage import Call, Stage

TEXT = "The small boat drifted far beyond the harbour while the evening light was fading."
SEED = 1


def long_speech(build: Path, checkpoint: Path, config: CosyVoiceConfig, voice: Voice, count: int) -> list[int]:
    """`count` speech tokens of one voice saying the text over and over."""
    llm = genai_llm(build)
    text = TextFrontend(checkpoint).encode(TEXT)
    speech: list[int] = []
    while len(speech) < count:
        prepared = Prepared([text], voice, 1.0, SEED + len(speech))
        speech += speech_tokens(llm, text, prepared, 0, config, never)
    return speech[:count]


def timed(chunks: Iterator[np.ndarray]) -> tuple[list[np.ndarray], list[float]]:
    """The chunks, and the seconds each took to come."""
    parts: list[np.ndarray] = []
    seconds: list[float] = []
    start = time.perf_counter()
    for chunk in chunks:
        now = time.perf_counter()
        parts.append(chunk)
        seconds.append(now - start)
        start = now
    return parts, seconds


def compare(
    call: Call, stages: dict[str, Stage], config: CosyVoiceConfig, speech: list[int], voice: Voice, hops: Sequence[int]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The waveform of one pass, and for each hop how the streamed one differs and what its chunks cost."""
    mel = whole_mel(call, config, speech, voice, streaming_mask=True)
    whole = whole_waveform(call, config, mel, SEED)
    rows: list[dict[str, Any]] = []
    for hop in hops:
        parts, seconds = timed(stream_waveform(call, stages, config, iter(speech), voice, seed=SEED, hop=hop))
        streamed = np.concatenate(parts)
        if streamed.shape != whole.shape:
            raise TritoneError(f"hop {hop}: {len(streamed)} samples streamed, {len(whole)} in one pass")
        rows.append(
            {
                "hop": hop,
                "chunks": len(parts),
                "largest_difference": float(np.abs(streamed - whole).max()),
                "seconds": seconds,
                "borders": np.cumsum([len(part) for part in parts]).tolist(),
                "first_ms": 1000 * seconds[0],
                # The last chunk is a remainder, so the comparison is between full ones.
                "late_over_early": float(np.median(seconds[-6:-1]) / np.median(seconds[2:7])),
            }
        )
    return whole, rows


def publish(name: str, whole: np.ndarray, rate: int, rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Write the three files; returns the page."""
    figure, axes = new_figure(12, 4, columns=2)
    shown = min(len(whole), 6 * rate)
    axes[0].specgram(whole[:shown], NFFT=1024, noverlap=768, Fs=rate, vmin=-140, vmax=-20)
    for border in rows[0]["borders"]:
        if border < shown:
            axes[0].axvline(border / rate, color="white", linewidth=0.5, linestyle=":")
    axes[0].set_ylim(0, 8000)
    axes[0].set_xlabel(f"seconds; dotted: chunk borders at hop {rows[0]['hop']}")
    for row in rows:
        axes[1].plot(np.arange(1, len(row["seconds"])), 1000 * np.array(row["seconds"][:-1]), label=f"hop {row['hop']}")
    axes[1].set_xlabel("chunk")
    axes[1].set_ylabel("milliseconds")
    axes[1].set_ylim(bottom=0)
    axes[1].legend()
    head = ["hop (tokens)", "chunks", "largest difference", "first chunk (ms)", "late chunks / early chunks"]
    cells = [
        [r["hop"], r["chunks"], f"{r['largest_difference']:.1e}", r["first_ms"], r["late_over_early"]] for r in rows
    ]
    table = Table("Streamed beside one pass under the streaming mask", head, cells)
    return write_report(name, "Streaming", {"rows": list(rows)}, [table], figure, folder)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line says; 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--build", type=Path, help="folder of the exported files (default build/NAME)")
    parser.add_argument("--hops", default="25,50,100", help="tokens per chunk (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=24, help="length of the speech (default: %(default)g)")
    parser.add_argument("--speaker", default="", help="a registered speaker (default: the first)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="streaming", help="name of the report (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    try:
        build = args.build or Path("build") / args.checkpoint.resolve().name
        family, config = open_family(args.checkpoint), load_config(args.checkpoint)
        voice = registered(args.speaker, TextFrontend(args.checkpoint), read_voices(args.checkpoint))
        speech = long_speech(build, args.checkpoint, config, voice, int(args.seconds * config.flow.token_frame_rate))
        call = onnx_call(build, family.stages, threads=args.threads, eager=True)
        stages = {stage.name: stage for stage in family.stages}
        whole, rows = compare(call, stages, config, speech, voice, [int(hop) for hop in args.hops.split(",")])
    except (TritoneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(publish(args.name, whole, config.sample_rate, rows, args.results))
    for row in rows:
        print({key: row[key] for key in ("hop", "chunks", "largest_difference", "first_ms", "late_over_early")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
