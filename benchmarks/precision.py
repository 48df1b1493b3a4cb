"""Intelligibility of mixed fp16: word error rate and audio distance beside fp32, with the same tokens.

    python benchmarks/precision.py --model-dir checkpoints/nano --build build/nano [--speakers rms,slt] [--limit 30]

Both precisions run from ONNX files in this process, fp16 in its rounded form (tritone/export/fp16_rounding.py). The
language model decodes once per sentence; the second run reuses its logits. Writes into build/benchmarks/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import asr
from benchmarks.report import FRESH, Table, write_report
from tritone.audio.distance import log_mel_difference, signal_to_noise
from tritone.catalog import open_family
from tritone.errors import TritoneError
from tritone.lm.genai import genai_sessions
from tritone.lm.logits import LogitsLm
from tritone.parity.end_to_end import LOG_MEL_TOLERANCE, Recorder, speak
from tritone.parity.engines import engine_call
from tritone.stage import Arrays

MARGIN = 0.02
"""The largest difference between the two word error rates."""


def measure(model_dir: Path, build: Path, speakers: list[str], texts: list[str], threads: int) -> dict[str, Any]:
    """Return per speaker both word error rates, mean and worst log-mel difference (natural logarithm), and SNR (dB)."""
    family = open_family(model_dir)
    rate = int(family.settings["sample_rate"])
    engines = {name: engine_call("onnx", name, family.stages, build, threads) for name in ("fp32", "fp16")}
    sessions = genai_sessions(build, threads=threads)
    results: dict[str, Any] = {}
    for speaker in speakers or list(family.settings["speakers"]):
        heard: dict[str, list[str]] = {name: [] for name in engines}
        differences, ratios = [], []
        for index, text in enumerate(texts):
            print(f"\r{speaker}: {index + 1}/{len(texts)}", end="", file=sys.stderr, flush=True)
            request: Arrays = {
                "target_text": np.array([[text.encode()]], object),
                "speaker": np.array([[speaker.encode()]], object),
                "seed": np.array([[index]], np.int64),
            }
            recorder = Recorder(sessions)
            exact, _ = speak(family, engines["fp32"], LogitsLm(recorder), request)
            mixed, _ = speak(family, engines["fp16"], recorder.replay(), request)
            differences.append(log_mel_difference(exact, mixed, rate))
            ratios.append(signal_to_noise(exact, mixed))
            for name, wave in (("fp32", exact), ("fp16", mixed)):
                heard[name].append(asr.transcribe(wave, rate))
        print(file=sys.stderr)
        results[speaker] = {f"wer_{name}": asr.word_error_rate(texts, words) for name, words in heard.items()}
        results[speaker] |= {
            "log_mel": float(np.mean(differences)),
            "log_mel_worst": float(np.max(differences)),
            "snr_db": float(np.mean(ratios)),
            "sentences": len(texts),
            "heard": heard,
        }
    return results


def main(arguments: list[str] | None = None) -> int:
    """Measure and publish; return 1 when a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, default=Path("checkpoints/nano"))
    parser.add_argument(
        "--build", type=Path, default=Path("build/nano"), help="build folder with ONNX in fp32 and fp16"
    )
    parser.add_argument("--speakers", default="", help="comma-separated (default: all)")
    parser.add_argument("--limit", type=int, default=30, help="sentences per speaker (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FRESH, help="folder of the results (default %(default)s)")
    args = parser.parse_args(arguments)
    texts = asr.sentences()[: args.limit]
    try:
        found = measure(args.model_dir, args.build, [s for s in args.speakers.split(",") if s], texts, args.threads)
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    head = ("speaker", "WER fp32", "WER fp16", "log-mel difference", "worst", "SNR, dB", "sentences")
    keys = ("wer_fp32", "wer_fp16", "log_mel", "log_mel_worst", "snr_db", "sentences")
    rows = [[speaker, *(entry[key] for key in keys)] for speaker, entry in found.items()]
    caption = "Streamed speech with the same tokens and noise, mixed fp16 beside fp32"
    print(write_report("precision", "Mixed fp16", {"speakers": found}, [Table(caption, head, rows)], None, args.folder))
    for row in rows:
        print(f"{row[0]}: WER {row[1]:.3f} in fp32, {row[2]:.3f} in fp16; log-mel {row[3]:.4f}; SNR {row[5]:.1f} dB")
    total = [float(np.mean([entry[key] for entry in found.values()])) for key in keys[:3]]
    if abs(total[0] - total[1]) > MARGIN or total[2] > LOG_MEL_TOLERANCE["fp16"]:
        print(f"error: mixed fp16 is further from fp32 than {MARGIN} WER or {LOG_MEL_TOLERANCE['fp16']} log-mel",
              file=sys.stderr)  # fmt: skip
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
