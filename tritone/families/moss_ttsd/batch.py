"""Synthesis of all dialogues in a JSONL file, several at a time.

    python -m tritone.families.moss_ttsd.batch dialogues.jsonl --checkpoint DIR --out DIR

A line is an object with the published fields: `text`, optionally `prompt_audio` with `prompt_text` (both speakers in
one recording), or `prompt_audio_speaker1` and `..2` with `prompt_text_speaker1` and `..2`. `base_path` is the folder of
relative names of recordings, by default the folder of the JSONL file. Other fields are inputs of a request by name
(`seed`, `max_seconds`, `normalize`, `temperature`). Dialogue n, counted from 0 without blank lines, is written to
`output_n.wav`, and `results.jsonl` has a result for each. A faulty line is reported and keeps its number, the others
are synthesised, and the exit status is 1. A file without one JSON object is an error before anything is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritone.audio.level import checked_waveform
from tritone.audio.wav import write_wav
from tritone.build.disk import disk_problems
from tritone.checkpoint.lines import JsonLine, read_json_lines
from tritone.engines.open import ENGINES, engine_name
from tritone.errors import InvalidRequest, TritoneError
from tritone.families.moss_ttsd.reference import read_recording
from tritone.load import Model, load_model, read_request
from tritone.stage import Arrays, Host

EXAMPLE = '{"text": "[S1]Hello."}'
TOGETHER = 8
"""The default number of dialogues to decode together; memory grows with the longest."""
NAMES = {
    "prompt_audio": "reference_wav",
    "prompt_text": "reference_text",
    "prompt_audio_speaker1": "reference_wav",
    "prompt_text_speaker1": "reference_text",
    "prompt_audio_speaker2": "reference_wav_2",
    "prompt_text_speaker2": "reference_text_2",
}
"""The published fields of a line, and the inputs of a request that they become."""
RECORDINGS = tuple(name for name in NAMES if name.startswith("prompt_audio"))


@dataclass(frozen=True)
class Line:
    """One dialogue: its index among the dialogues, its line number in the file, and its request or the line's error."""

    index: int
    number: int
    request: Arrays | TritoneError


def read_line(index: int, line: JsonLine, folder: Path, model: Model) -> Line:
    """Return a line with its request or its error; recordings with relative names are in the folder."""
    if isinstance(line.value, str):
        return Line(index, line.number, InvalidRequest("line", line.value))
    try:
        return Line(index, line.number, item_request(line.value, folder, model))
    except TritoneError as error:
        return Line(index, line.number, error)


def item_request(item: dict[str, Any], folder: Path, model: Model) -> Arrays:
    """Return an item as a request; its recordings are read, mixed down and resampled."""
    fields = {name: value for name, value in item.items() if value is not None and value != ""}
    if "target_text" in fields:
        raise InvalidRequest("target_text", "is called `text` in a line")
    for name in ("text", "base_path", *NAMES):
        if name in fields and not isinstance(fields[name], str):
            raise InvalidRequest(name, f"is a {type(fields[name]).__name__}; give a string")
    if "text" not in fields:
        raise InvalidRequest("text", f"is missing or empty; the line has {', '.join(fields) or 'nothing'}")
    text, base = fields.pop("text"), folder / fields.pop("base_path", "")
    inputs: dict[str, Any] = {}
    for name, value in fields.items():
        target = NAMES.get(name, name)
        if target in inputs:
            raise InvalidRequest(
                name, "came with recordings of single speakers; give one recording of both, or one of each"
            )
        inputs[target] = recording(base / value, name) if name in RECORDINGS else value
    for audio in (name for name in fields if name in RECORDINGS):
        transcript = audio.replace("audio", "text")
        if NAMES[transcript] not in inputs:
            raise InvalidRequest(transcript, f"is missing; write the transcript of {audio}")
    return read_request(model.family, text, "", inputs)


def recording(path: Path, name: str) -> np.ndarray:
    """Return the recording of a field; errors name the field, also those of paths that cannot exist."""
    try:
        return read_recording(path, name)
    except OSError as error:
        raise InvalidRequest(name, f"{path} cannot be read: {error.strerror or error}") from error


def answers(host: Host, model: Model, requests: Sequence[Arrays]) -> list[Any]:
    """Return the results of a host step; when the requests fail together, each is tried alone."""
    if not requests:
        return []
    try:
        return list(host.run(model.call, model.llm, list(requests)))
    except Exception as error:
        if len(requests) > 1:
            return [answer for request in requests for answer in answers(host, model, [request])]
        return [error]


def speak(model: Model, requests: Sequence[Arrays]) -> list[np.ndarray | Exception]:
    """Return a waveform or an error for each request; all requests are decoded together."""
    known: list[Any] = [dict(request) for request in requests]
    for host in model.family.hosts:
        names = {tensor.name for tensor in host.inputs}
        good = [index for index, arrays in enumerate(known) if not isinstance(arrays, Exception)]
        inputs = [{name: array for name, array in known[index].items() if name in names} for index in good]
        for index, result in zip(good, answers(host, model, inputs), strict=True):
            known[index] = result if isinstance(result, Exception) else known[index] | result
    return [waveform(arrays, model.family.response[0].name) for arrays in known]


def waveform(arrays: Arrays | Exception, name: str) -> np.ndarray | Exception:
    """Return the waveform of that name, or the error in its place, also if it cannot be speech."""
    if isinstance(arrays, Exception):
        return arrays
    try:
        return checked_waveform(arrays[name].reshape(-1))
    except TritoneError as error:
        return error


def run(lines: Sequence[Line], model: Model, out: Path, together: int) -> Iterator[dict[str, Any]]:
    """Yield the result of each dialogue in order, once its sound is written."""
    for start in range(0, len(lines), together):
        part = lines[start : start + together]
        spoken = iter(speak(model, [line.request for line in part if isinstance(line.request, dict)]))
        for line in part:
            wave = next(spoken) if isinstance(line.request, dict) else line.request
            result: dict[str, Any] = {"line": line.number}
            if isinstance(wave, Exception):
                yield result | {"error": str(wave) or type(wave).__name__}
                continue
            file = out / f"output_{line.index}.wav"
            write_wav(file, wave, model.sample_rate)
            yield result | {"wav": file.name, "seconds": round(len(wave) / model.sample_rate, 2)}


def speak_all(lines: Sequence[Line], model: Model, out: Path, together: int) -> int:
    """Write sounds and results, report each dialogue, and return the number of those that failed."""
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with (out / "results.jsonl").open("w", encoding="utf-8") as results:
        for result in run(lines, model, out, together):
            results.write(json.dumps(result, ensure_ascii=False) + "\n")
            results.flush()
            failed += "error" in result
            report = result.get("error") or f"{result['wav']}, {result['seconds']} s"
            output = sys.stderr if "error" in result else sys.stdout
            print(f"line {result['line']}: {report}", file=output, flush=True)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Synthesise the dialogues of a file and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tritone.families.moss_ttsd.batch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a JSONL file, one dialogue on each line")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of the language model with its codec")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sound files; created if it is missing")
    parser.add_argument(
        "--engine",
        default="torch",
        type=engine_name,
        choices=ENGINES,
        help="what runs the stages (default: %(default)s)",
    )
    parser.add_argument(
        "--build-dir", type=Path, help="folder of exported artifacts, needed by engines other than torch"
    )
    parser.add_argument("--device", default="cpu", help="where torch runs: cpu or cuda (default: %(default)s)")
    parser.add_argument("--dtype", default="", help="of the language model on torch (default: float32)")
    parser.add_argument("--attention", default="", help="of the language model on torch (default: eager)")
    parser.add_argument("--threads", type=int, default=1, help="of each network (default: %(default)s)")
    parser.add_argument(
        "--together", type=int, default=TOGETHER, help="dialogues decoded at a time (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        written = read_json_lines(args.file, EXAMPLE, TritoneError)
        model = load_model(
            args.checkpoint,
            device=args.device,
            engine=args.engine,
            build_dir=args.build_dir,
            threads=args.threads,
            dtype=args.dtype,
            attention=args.attention,
        )
        lines = [read_line(index, line, args.file.parent, model) for index, line in enumerate(written)]
        with disk_problems(args.out):
            failed = speak_all(lines, model, args.out, max(1, args.together))
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
