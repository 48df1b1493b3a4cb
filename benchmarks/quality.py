"""Intelligibility of speech: each speaker's word error rate beside its source voice, and log-mel distances.

    python benchmarks/quality.py [--url localhost:8001] [--speakers rms,slt]     a running server
    python benchmarks/quality.py --checkpoint DIR                                a checkpoint, in this process, on torch
    python benchmarks/quality.py --wavs DIR                                      DIR/SPEAKER/01.wav .. 30.wav
    python benchmarks/quality.py --sources --name sources                        the flite voices themselves

Sentence N of benchmarks/harvard.txt is NN.wav. Writes JSON, a page and a plot into build/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import asr
from benchmarks.distance import log_mel_distance, warped_distance
from benchmarks.report import FRESH, RESULTS, Table, new_figure, write_report
from tritone.audio.wav import read_wav
from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.errors import ConfigError, TritoneError
from tritone.load import Model, load_model

MARGIN = 0.08
"""The largest word error rate of a trained speaker above its source voice's."""

Say = Callable[[int, str], tuple[np.ndarray, int] | None]
"""`say(index, sentence) -> (samples, rate)`, or None where there is no recording."""


def score(say: Say, texts: list[str], label: str) -> dict[str, Any]:
    """Return the word error rate over all spoken sentences, and the transcript of each."""
    heard: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        print(f"\r{label}: {index + 1}/{len(texts)}", end="", file=sys.stderr, flush=True)
        found = say(index, text)
        if found is not None:
            wav, rate = found
            words = asr.transcribe(wav, rate)
            heard.append({"text": text, "heard": words, "seconds": round(len(wav) / rate, 2)})
            heard[-1]["wer"] = asr.word_error_rate([text], [words])
    print(file=sys.stderr)
    if not heard:
        raise ConfigError(f"{label}: no recording to score")
    return {"wer": total_wer(heard), "sentences": len(heard), "heard": heard}


def total_wer(rows: list[dict[str, Any]]) -> float:
    """Return the word error rate over rows of `text` and `heard` together."""
    return asr.word_error_rate([row["text"] for row in rows], [row["heard"] for row in rows])


def from_flite(voice: str) -> Say:
    """Yield the sentences spoken by the source voice, with the installed flite."""
    from training.corpus.flite import RATE, check_voices, synthesize

    check_voices([voice])
    return lambda index, text: (synthesize(text, voice), RATE)


def from_folder(folder: Path) -> Say:
    """Yield NN.wav of the folder for sentence NN; sentences without a file are left out."""

    def say(index: int, text: str) -> tuple[np.ndarray, int] | None:
        path = folder / f"{index + 1:02d}.wav"
        return (read_wav(path, asr.RATE), asr.RATE) if path.is_file() else None

    return say


def folders(root: Path) -> dict[str, Path]:
    """Return folders by speaker: the subfolders with 01.wav and so on, else the folder itself."""
    found = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
    found = {name: path for name, path in found.items() if any(path.glob("[0-9][0-9].wav"))}
    if not found and root.is_dir() and any(root.glob("[0-9][0-9].wav")):
        found = {root.resolve().name: root}
    if not found:
        raise ConfigError(f"{root} holds no recordings; expected {root}/SPEAKER/01.wav, one per line of harvard.txt")
    return found


def from_server(client: SpeechClient, speaker: str, seed: int) -> Say:
    """Return the sentences spoken by a served speaker, whole."""

    def say(index: int, text: str) -> tuple[np.ndarray, int]:
        speech = client.synthesize(text, speaker=speaker, seed=seed)
        return speech.waveform, speech.sample_rate

    return say


def from_model(model: Model, speaker: str, seed: int) -> Say:
    """Return the sentences spoken by a loaded checkpoint, whole."""
    return lambda index, text: (model.synthesize(text, speaker, seed=seed), model.sample_rate)


def streamed_differences(client: SpeechClient, speaker: str, texts: list[str], seed: int) -> dict[str, float]:
    """Compare streamed with whole speech: return the log-mel distance in dB and the largest length difference in s."""
    distances, lengths = [], []
    for text in texts:
        whole = client.synthesize(text, speaker=speaker, seed=seed)
        streamed = np.concatenate(list(client.stream(text, speaker=speaker, seed=seed)))
        distances.append(log_mel_distance(whole.waveform, streamed, whole.sample_rate))
        lengths.append(abs(len(whole.waveform) - len(streamed)) / whole.sample_rate)
    return {
        "streamed_db": float(np.mean(distances)),
        "streamed_worst_db": max(distances),
        "streamed_length_difference_s": max(lengths),
    }


def source_distance(say: Say, source: Say, texts: list[str]) -> float:
    """Return the mean time-warped log-mel distance in dB between a speaker and its source voice."""

    def pairs() -> Iterator[float]:
        for index, text in enumerate(texts):
            ours, theirs = say(index, text), source(index, text)
            if ours is not None and theirs is not None:
                yield warped_distance(*ours, *theirs)

    values = list(pairs())
    return float(np.mean(values)) if values else float("nan")


def reference(voice: str, texts: list[str]) -> float | None:
    """Return the source voice's word error rate: from results/sources.json, else measured; None without flite."""
    recorded = RESULTS / "sources.json"
    if recorded.is_file():
        entry = json.loads(recorded.read_text())["results"]["speakers"].get(voice, {"heard": []})
        rows = [row for row in entry["heard"] if row["text"] in texts]
        if len(rows) == len(texts):
            return total_wer(rows)
    try:
        return float(score(from_flite(voice), texts, f"source {voice}")["wer"])
    except TritoneError as error:
        print(f"no source voice to compare {voice} with: {error}", file=sys.stderr)
        return None


def compare(name: str, say: Say, texts: list[str], distances: int) -> dict[str, Any]:
    """Return one speaker's score with its source's beside it; `distances` sentences are also compared spectrally."""
    cache: dict[int, tuple[np.ndarray, int] | None] = {}

    def once(index: int, text: str) -> tuple[np.ndarray, int] | None:
        if index not in cache:
            cache[index] = say(index, text)
        return cache[index]

    result = score(once, texts, name)
    spoken = [row["text"] for row in result["heard"]]
    result["source_wer"] = reference(name, spoken)
    if result["source_wer"] is not None:
        result["within_margin"] = result["wer"] <= result["source_wer"] + MARGIN
    if distances:
        try:
            result["source_distance_db"] = source_distance(once, from_flite(name), texts[:distances])
        except TritoneError as error:
            print(f"no source voice to compare {name} with: {error}", file=sys.stderr)
    return result


def publish(name: str, title: str, speakers: dict[str, dict[str, Any]], folder: Path) -> Path:
    """Write the three files; return the page."""
    figure, axes = new_figure()
    position = np.arange(len(speakers))
    axes.bar(position - 0.2, [entry["wer"] for entry in speakers.values()], 0.4, label="served")
    sources = [entry.get("source_wer") for entry in speakers.values()]
    if any(value is not None for value in sources):
        axes.bar(position + 0.2, [value or 0.0 for value in sources], 0.4, label="source voice")
        axes.legend()
    axes.set_xticks(position, list(speakers))
    axes.set_ylabel("word error rate")
    head = ("speaker", "WER", "source WER", f"within + {MARGIN}", "to source, dB", "streamed vs whole, dB", "sentences")
    keys = ("wer", "source_wer", "within_margin", "source_distance_db", "streamed_db", "sentences")
    rows = [[speaker, *(entry.get(key) for key in keys)] for speaker, entry in speakers.items()]
    summary = Table("Word error rate (pocketsphinx, Harvard sentences)", head, rows)
    details = [
        Table(speaker, ["sentence", "heard", "WER"], [[r["text"], r["heard"], r["wer"]] for r in entry["heard"]])
        for speaker, entry in speakers.items()
    ]
    return write_report(name, title, {"speakers": speakers}, [summary, *details], figure, folder)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(description="Word error rate and log-mel distances of served or recorded speech.")
    parser.add_argument("--url", help="server address (default localhost:8001)")
    parser.add_argument("--checkpoint", type=Path, help="score a checkpoint instead of a server")
    parser.add_argument("--wavs", type=Path, help="score recordings instead of a server")
    parser.add_argument("--sources", action="store_true", help="score the flite voices instead of a server")
    parser.add_argument("--speakers", help="comma-separated; default: all the server lists (flite: rms,slt,awb,kal16)")
    parser.add_argument("--limit", type=int, default=30, help="sentences per speaker (default %(default)s)")
    parser.add_argument("--distances", type=int, default=5, help="sentences compared spectrally (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="quality", help="file name of the results (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=FRESH, help="folder of the results (default %(default)s)")
    options = parser.parse_args(arguments)
    texts = asr.sentences()[: options.limit]
    wanted = options.speakers.split(",") if options.speakers else None
    try:
        speakers = measure(options, texts, wanted)
    except (TritoneError, SpeechError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for speaker, entry in speakers.items():
        beside = f", source {entry['source_wer']:.3f}" if entry.get("source_wer") is not None else ""
        print(f"{speaker}: word error rate {entry['wer']:.3f}{beside}")
    print(publish(options.name, "Speech quality", speakers, options.folder))
    return 0


def measure(options: argparse.Namespace, texts: list[str], wanted: list[str] | None) -> dict[str, dict[str, Any]]:
    """Return results by speaker, from the source that the options name."""
    if options.sources:
        return {voice: score(from_flite(voice), texts, voice) for voice in wanted or ["rms", "slt", "awb", "kal16"]}
    if options.wavs:
        found = folders(options.wavs)
        chosen = {name: found[name] for name in found if wanted is None or name in wanted}
        if not chosen:
            asked = ", ".join(wanted or [])
            raise ConfigError(f"no recordings of {asked} in {options.wavs}; it has {', '.join(found)}")
        return {name: compare(name, from_folder(path), texts, options.distances) for name, path in chosen.items()}
    if options.checkpoint:
        model = load_model(options.checkpoint)
        say = {name: from_model(model, name, options.seed) for name in wanted or model.speakers}
        return {name: compare(name, say[name], texts, options.distances) for name in say}
    with SpeechClient(options.url) as client:
        client.wait_until_ready(10.0)
        names = wanted or client.speakers()
        if not names:
            raise ConfigError("the served model lists no speakers; name some with --speakers")
        results = {}
        for name in names:
            results[name] = compare(name, from_server(client, name, options.seed), texts, options.distances)
            if options.distances:
                results[name] |= streamed_differences(client, name, texts[: options.distances], options.seed)
        return results


if __name__ == "__main__":
    sys.exit(main())
