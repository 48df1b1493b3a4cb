"""The recipe of a whole voice: corpus, tokenizer, speaker embedder, tokens, vocoder, flow, language model, checkpoint.

`python -m training cosyvoice --data data/nano --out checkpoints/nano` runs every part that is not finished, so it
can be stopped and resumed at any time; a part trained alone (`python -m training cosyvoice_flow ...`) counts as
finished.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from training import prepare
from training.core.run import FINISHED
from training.corpus.data import Corpus
from training.cosyvoice import speaker as cosyvoice_speaker
from training.cosyvoice import tokenizer as cosyvoice_tokenizer
from training.cosyvoice.assemble import assemble
from tritone.errors import ConfigError, TritoneError
from tritone.families.cosyvoice.checkpoint.folder import SPEAKER_EMBEDDER, SPEECH_TOKENIZER

FIRST = ("tokenizer", "speaker")
"""Runs that need the recordings alone; their networks make the features of the others."""
THEN = ("vocoder", "flow", "lm")
SMOKE_UTTERANCES = 60


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this recipe's options."""
    parser.set_defaults(out=None)
    parser.add_argument("--runs", type=Path, help="folder of the single runs (default: runs, with --smoke runs/smoke)")
    parser.add_argument("--utterances", type=int, default=24000, help="sentences to speak when there is no corpus yet")
    parser.add_argument(
        "--voices", nargs="+", default=["rms", "slt", "awb", "kal16"], help="flite voices to speak them"
    )
    parser.add_argument(
        "--text", nargs="*", type=Path, default=[], help="files of sentences (default: Debian's fortunes)"
    )
    parser.add_argument(
        "--exclude", nargs="*", type=Path, default=[], help="files of sentences to exclude from training"
    )
    parser.add_argument(
        "--limit", nargs="*", default=[], metavar="RUN=MINUTES", help="time budgets, such as vocoder=90 lm=40"
    )
    parser.add_argument("--parallel", type=int, default=1, help="runs to train at once, sharing the CPU threads")
    parser.add_argument("--processes", type=int, default=1, help="processes per run (torchrun)")
    parser.add_argument(
        "--quality", type=Path, nargs="*", default=[], help="JSON files of measured quality for the model card"
    )


def main(args: argparse.Namespace) -> None:
    """Run every unfinished part, then write the checkpoint."""
    limits = read_limits(args.limit)
    runs = args.runs or Path("runs/smoke" if args.smoke else "runs")
    out = args.out or Path("runs/smoke/checkpoint" if args.smoke else "checkpoints/nano")
    data = runs / "data" if args.smoke else args.data
    if not (data / "manifest.jsonl").exists():
        count = SMOKE_UTTERANCES if args.smoke else args.utterances
        prepare.make_flite_corpus(data, count, args.voices, args.text, args.exclude, args.seed)
    corpus = Corpus(data)
    for kind in ("whisper", "mel", "fbank"):
        corpus.store(kind)
    train_all(FIRST, args, runs, data, limits)
    tokenizer, embedder = runs / "tokenizer" / SPEECH_TOKENIZER, runs / "speaker" / SPEAKER_EMBEDDER
    if newer(runs / "tokenizer" / "best.pt", tokenizer):
        cosyvoice_tokenizer.export(runs / "tokenizer", tokenizer, args.smoke)
    if newer(runs / "speaker" / "best.pt", embedder):
        cosyvoice_speaker.export(runs / "speaker", embedder, args.smoke)
    if not made_by(corpus, "tokens", tokenizer):
        prepare.add_tokens(corpus, tokenizer)
    if not made_by(corpus, "embedding", embedder):
        prepare.add_embeddings(corpus, embedder)
    for name in ("flow", "lm"):
        check_not_older(runs / name, corpus.store_path("tokens"))
    train_all(THEN, args, runs, data, limits)
    assemble(out, corpus, runs, args.smoke, args.quality)
    print(f"{out} is complete: {sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) / 1e6:.1f} MB")


def read_limits(given: list[str]) -> dict[str, float]:
    """Return the minutes by run name from RUN=MINUTES arguments."""
    limits = {}
    for argument in given:
        name, _, minutes = argument.partition("=")
        if name not in FIRST + THEN or not minutes.replace(".", "", 1).isdigit():
            raise ConfigError(
                f"--limit {argument}: expected RUN=MINUTES, where RUN is one of {', '.join(FIRST + THEN)}."
            )
        limits[name] = float(minutes)
    return limits


def train_all(
    names: tuple[str, ...], args: argparse.Namespace, runs: Path, data: Path, limits: dict[str, float]
) -> None:
    """Train the runs of `names` that are not finished, `args.parallel` at a time, each in a process of its own."""
    waiting = [name for name in names if not (runs / name / FINISHED).exists()]
    threads = max(1, (args.threads or os.cpu_count() or 1) // min(args.parallel, max(1, len(waiting))))
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < args.parallel:
                name = waiting.pop(0)
                running[name] = subprocess.Popen(command(name, args, runs, data, limits, threads))
            time.sleep(0.2)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                code = running.pop(name).returncode
                if code or not (runs / name / FINISHED).exists():
                    raise TritoneError(
                        f"the run {name} ended early (exit status {code}); run the same command to continue."
                    )
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def command(
    name: str, args: argparse.Namespace, runs: Path, data: Path, limits: dict[str, float], threads: int
) -> list[str]:
    """Return the command line of one run."""
    python = [sys.executable, "-m"]
    if args.processes > 1:
        python += ["torch.distributed.run", "--standalone", f"--nproc_per_node={args.processes}", "-m"]
    line = [*python, "training", f"cosyvoice_{name}", "--data", str(data), "--out", str(runs / name)]
    line += ["--device", str(args.device), "--threads", str(threads), "--seed", str(args.seed)]
    line += ["--smoke"] if args.smoke else ["--eval-every", str(args.eval_every), "--save-every", str(args.save_every)]
    return line + (["--minutes", str(limits[name])] if name in limits else [])


def newer(source: Path, product: Path) -> bool:
    """Return whether `product` has to be made (again) from `source`."""
    return not product.exists() or product.stat().st_mtime < source.stat().st_mtime


def made_by(corpus: Corpus, kind: str, network: Path) -> bool:
    """Return whether the corpus has features of that kind from exactly this file."""
    return corpus.store_path(kind).exists() and corpus.store(kind).source == prepare.digest(network)


def check_not_older(run: Path, store: Path) -> None:
    """Raise when a run was trained on features that have been replaced since."""
    trained = [path.stat().st_mtime for path in run.glob("*.pt")]
    if trained and min(trained) < (store / "about.json").stat().st_mtime:
        raise ConfigError(
            f"{run} was trained on other speech tokens than those in {store}; delete the run to train it again."
        )
