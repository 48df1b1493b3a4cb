"""`python -m training.prepare`: make a corpus, or index recordings, and add the features that a recipe needs.

flite       speak sentences with Debian's flite voices      -> wavs/, metadata.csv, manifest.jsonl
manifest    index an LJSpeech-style folder                   -> manifest.jsonl
features    compute mel, whisper, fbank or audio ahead       -> features/
tokens      speech tokens of every utterance                 -> features/
embedding   speaker embedding of every utterance             -> features/
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from training.corpus import flite
from training.corpus.data import Corpus
from training.corpus.manifest import write_manifest
from training.corpus.sentences import fortune_files, read_texts, sentences, shares
from training.recipes import RECIPES
from tritone.checkpoint.lines import text_lines
from tritone.errors import ConfigError, EnvironmentProblem, TritoneError

SHOWN = 20
"""Utterances left out that are printed; a file has all of them."""


def make_flite_corpus(
    out: Path, count: int, voices: list[str], texts: list[Path], exclude: list[Path], seed: int = 0, processes: int = 2
) -> None:
    """Cut sentences out of `texts` (Debian's fortunes by default), have flite speak them, and write the manifest."""
    files = texts or fortune_files()
    if not files:
        raise EnvironmentProblem("no text to speak: run apt-get install fortunes, or give files with --text.")
    excluded = [line for path in exclude for _, line in text_lines(path)]
    usable = sentences(read_texts(files), exclude=excluded)
    if len(usable) < count:
        raise ConfigError(
            f"--utterances {count}: the texts have {len(usable)} usable sentences; give more files with --text."
        )
    flite.make_corpus(shares(usable, voices, count, seed), out, processes)
    _index(out, processes)


def _index(folder: Path, processes: int, columns: list[str] | None = None) -> None:
    """Write the manifest of a folder; print what its columns were taken for, and every utterance left out."""
    done = write_manifest(folder, columns, processes)
    print(f"{folder}/metadata.csv: {done.columns}")
    print(f"{folder}/manifest.jsonl: {done.count} utterances, {len(done.left_out)} left out")
    for problem in done.left_out[:SHOWN]:
        print(f"  left out {problem}")
    if len(done.left_out) > SHOWN:
        print(f"  and {len(done.left_out) - SHOWN} more; all are in {folder}/manifest.rejected")


def add_tokens(corpus: Corpus, tokenizer: Path) -> None:
    """Compute every utterance's speech tokens with the ONNX tokenizer and store them as "tokens"."""
    session = _session(tokenizer)
    feats, length = (node.name for node in session.get_inputs())
    whisper = corpus.store("whisper")

    def tokens() -> Iterator[np.ndarray]:
        for i in tqdm(range(len(corpus)), desc="tokens", mininterval=5):
            mel = whisper[i].T[None].astype(np.float32)
            yield (
                session.run(None, {feats: mel, length: np.array([mel.shape[2]], np.int32)})[0]
                .reshape(-1, 1)
                .astype(np.int16)
            )

    corpus.write("tokens", tokens(), digest(tokenizer))


def add_embeddings(corpus: Corpus, embedder: Path) -> None:
    """Compute every utterance's speaker embedding with the ONNX embedder and store it as "embedding"."""
    session = _session(embedder)
    fbank = corpus.store("fbank")

    def embeddings() -> Iterator[np.ndarray]:
        for i in tqdm(range(len(corpus)), desc="embeddings", mininterval=5):
            yield session.run(None, {session.get_inputs()[0].name: fbank[i][None].astype(np.float32)})[0].astype(
                np.float32
            )

    corpus.write("embedding", embeddings(), digest(embedder))


def exported(given: Path, recipe: str) -> Path:
    """Return the ONNX file `given`; for the folder of a run of that recipe, export its best network there first."""
    if not given.is_dir():
        return given
    module = import_module(RECIPES[recipe])
    path = given / module.FILE
    module.export(given, path)
    return path


def _session(path: Path) -> Any:
    """Return an onnxruntime session that uses the available CPU threads without spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())


def digest(path: Path) -> str:
    """Return the checksum of a file, which records the network that made a feature."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    speak = steps.add_parser("flite", help="speak a corpus with flite")
    speak.add_argument("--out", type=Path, default=Path("data/nano"))
    speak.add_argument("--utterances", type=int, default=24000)
    speak.add_argument("--voices", nargs="+", default=["rms", "slt", "awb", "kal16"])
    speak.add_argument("--text", nargs="*", type=Path, default=[], help="plain text files (default: Debian's fortunes)")
    speak.add_argument(
        "--exclude", nargs="*", type=Path, default=[], help="files of sentences, one a line, never to speak"
    )
    speak.add_argument("--seed", type=int, default=0)
    for name in ("manifest", "features", "tokens", "embedding"):
        step = steps.add_parser(name)
        step.add_argument("--data", type=Path, default=Path("data/nano"))
        if name == "manifest":
            step.add_argument(
                "--columns",
                metavar="id,text,speaker",
                help="what the columns of metadata.csv are, of id, text, normalised, speaker and - (ignored)",
            )
        if name == "features":
            step.add_argument("--kinds", nargs="+", default=["whisper", "mel", "audio", "fbank"])
        if name == "tokens":
            step.add_argument("--tokenizer", type=Path, required=True, help="the ONNX file, or a run's folder")
        if name == "embedding":
            step.add_argument("--embedder", type=Path, required=True, help="the ONNX file, or a run's folder")
    for step in steps.choices.values():
        step.add_argument("--processes", type=int, default=2)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run a step; return 0, or 1 after an error, which is printed."""
    try:
        run_step(parse(arguments))
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_step(args: argparse.Namespace) -> None:
    """Run the step that the command line names."""
    if args.step == "flite":
        make_flite_corpus(args.out, args.utterances, args.voices, args.text, args.exclude, args.seed, args.processes)
    elif args.step == "manifest":
        columns = [name.strip() for name in args.columns.split(",")] if args.columns is not None else None
        _index(args.data, args.processes, columns)
    else:
        corpus = Corpus(args.data, processes=args.processes)
        if args.step == "features":
            for kind in args.kinds:
                corpus.store(kind)
        elif args.step == "tokens":
            add_tokens(corpus, exported(args.tokenizer, "cosyvoice_tokenizer"))
        else:
            add_embeddings(corpus, exported(args.embedder, "cosyvoice_speaker"))


if __name__ == "__main__":
    sys.exit(main())
