"""`python -m training.bert_vits2.preprocess`: prepare recordings and a transcript for training.

resample      recordings as mono 16-bit wav at the model's rate        -> FOLDER/**/*.wav
clean         `wav|speaker|language|text` into phones                  -> cleaned filelist, rejected lines
bert          features of the texts by BERT encoders                   -> x.bert.<language>.npz beside each x.wav
spectrograms  linear spectrograms ahead of training                    -> x.spec.npz beside each x.wav
split         validation utterances, speakers, configuration           -> FOLDER/train.list, val.list, config.json

Every step skips unusable items and reports the reason, resumes after an interruption, and runs in shards (`--shard 0/4`
on one machine, `--shard 1/4` on the next; the last one completes the result).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.bert_vits2.data.arrays import room
from training.bert_vits2.data.filelist import (
    LANGUAGES,
    SHOWN,
    Transcript,
    read_transcripts,
    read_utterances,
    write_lines,
)
from training.bert_vits2.preparation import items
from training.bert_vits2.preparation.items import Outcome
from training.bert_vits2.preparation.journal import Journal
from training.bert_vits2.preparation.shards import Shard, mapped
from training.bert_vits2.preparation.split import write_split
from training.corpus.recordings import SUFFIXES
from tritone.errors import ConfigError, TritoneError
from tritone.families.bert_vits2.config import DataConfig, read_config
from tritone.families.bert_vits2.text.bert import BertEncoder

Run = Callable[[Callable[[Any], Outcome], Sequence[Any]], Iterable[Outcome]]
"""Maps a function over items, in order, in the processes chosen by the command line."""


def recordings(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return every recording below `source` with its `.wav` below `target`, in alphabetic order.

    Raises ConfigError without any recording, if two have the same target, or if `target` is inside `source`.
    """
    paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise ConfigError(f"{source} has no sound files ({', '.join(SUFFIXES)}).")
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise ConfigError(f"--out {target} is inside --in {source}; resampled recordings need a folder of their own.")
    pairs = [(path, (target / path.relative_to(source)).with_suffix(".wav")) for path in paths]
    twice = [str(path) for path, count in Counter(goal for _, goal in pairs).items() if count > 1]
    if twice:
        raise ConfigError(f"several recordings would become {twice[0]}: rename all but one of them.")
    return pairs


def clean(
    rows: Sequence[Transcript], out: Path, run: Run, shard: Shard, tokenizer: Path | None = None, redo: bool = False
) -> str:
    """Clean this shard's rows; write `out` once all shards are done; return a summary.

    Unusable rows are written to `<out>.rejected`, as `wav: reason`.
    """
    journal = Journal(out, shard, by=f"tokens of {tokenizer.name}" if tokenizer else "words")
    if redo:
        journal.forget()
    by_wav: dict[str, Transcript] = {}
    for row in rows:
        by_wav.setdefault(row.wav, row)
    first = list(by_wav.values())
    mine = [row for row in shard.take(first) if not ((known := journal.get(row.line())) and known.line)]
    results = run(partial(items.clean, tokenizer=tokenizer), mine)
    journal.add((row.line(), outcome) for row, outcome in zip(mine, results, strict=True))
    outcomes = [journal.get(row.line()) for row in first]
    left = outcomes.count(None)
    if left:
        rest = f"{left} of {len(first)} belong to other shards, so {out} is not written yet"
        return f"shard {shard}: {len(mine)} lines done; {rest}"
    lines = [o.line for o in outcomes if o and o.line]
    rejected = [f"{o.name}: {o.problem}" for o in outcomes if o and not o.line]
    counts = Counter(row.wav for row in rows)
    rejected += [f"{wav}: has {n} lines; the first is used" for wav, n in counts.items() if n > 1]
    with room(out):
        write_lines(out.with_name(f"{out.name}.rejected"), rejected)
        if not lines:
            raise ConfigError(f"none of the {len(rows)} lines is usable:{_listed(rejected)}")
        write_lines(out, lines)
    return f"{out}: {len(lines)} of {len(rows)} lines{_listed(rejected)}"


def report(outcomes: Iterable[Outcome], what: str) -> tuple[str, bool]:
    """Return a summary of the outcomes, and whether all items are usable."""
    counts, problems = Counter[str](), []
    for outcome in outcomes:
        counts["left out" if outcome.problem else "made" if outcome.made else "there already"] += 1
        problems += [f"{outcome.name}: {outcome.problem}"] if outcome.problem else []
    numbers = ", ".join(f"{counts[name]} {name}" for name in ("made", "there already", "left out"))
    return f"{what}: {numbers}{_listed(problems)}", not problems


def encoders(options: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each language's encoder, from options `LANGUAGE=FOLDER`; ConfigError for any other form."""
    folders = {}
    for option in options:
        language, _, folder = option.partition("=")
        if language.upper() not in LANGUAGES or not folder:
            raise ConfigError(
                f"--model {option} is invalid; write LANGUAGE=FOLDER; the languages are {', '.join(LANGUAGES)}."
            )
        folders[language.upper()] = BertEncoder(folder, language).folder
    return folders


def _listed(problems: Sequence[str]) -> str:
    rest = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "".join(f"\n  {line}" for line in [*problems[:SHOWN], *rest])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.bert_vits2.preprocess",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="step", required=True)
    step = {name: commands.add_parser(name) for name in ("resample", "clean", "bert", "spectrograms", "split")}
    step["resample"].add_argument("--in", dest="source", type=Path, required=True, metavar="FOLDER")
    step["resample"].add_argument("--rate", type=int, help="sampling rate in Hz (default: the configuration's)")
    step["clean"].add_argument("--transcript", type=Path, required=True, help="lines of wav|speaker|language|text")
    step["clean"].add_argument("--redo", action="store_true", help="clean finished lines again")
    step["clean"].add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="the English BERT encoder, if its features will be used"
    )
    step["bert"].add_argument(
        "--model",
        action="append",
        required=True,
        metavar="LANGUAGE=FOLDER",
        help="BERT encoder of a language; repeat for each language",
    )
    step["bert"].add_argument("--half", action="store_true", help="store float16 (default: float32)")
    step["split"].add_argument("--val-per-language", type=int, default=4)
    step["split"].add_argument("--val-total", type=int, default=12)
    step["split"].add_argument("--seed", type=int, default=0)
    for name in ("resample", "clean", "split"):
        what = "the cleaned filelist" if name == "clean" else "a folder"
        step[name].add_argument("--out", type=Path, required=True, help=what)
    for name in ("bert", "spectrograms", "split"):
        step[name].add_argument("--list", type=Path, required=True, help="a cleaned filelist")
    for name in ("resample", "bert", "spectrograms", "split"):
        step[name].add_argument(
            "--config", type=Path, required=name == "split", help="config.json (default: the published sizes)"
        )
    for name in ("resample", "clean", "bert", "spectrograms"):
        step[name].add_argument("--shard", default="0/1", metavar="I/N", help="process only this part, counted from 0")
        workers = 0 if name == "bert" else os.cpu_count() or 0
        step[name].add_argument("--workers", type=int, default=workers, help=f"processes (default {workers})")
    return parser.parse_args(arguments)


def run_step(args: argparse.Namespace) -> tuple[str, bool]:
    """Run a step, and return a summary and whether everything that training needs is there."""
    data = read_config(args.config).data if getattr(args, "config", None) else DataConfig()
    if args.step == "split":
        held = (args.val_per_language, args.val_total, args.seed)
        return write_split(read_utterances(args.list), args.out, args.config, *held), True
    shard = Shard.parse(args.shard)

    def run(function: Callable[[Any], Outcome], items: Sequence[Any]) -> Iterator[Outcome]:
        results = mapped(function, items, args.workers)
        yield from tqdm(
            results, total=len(items), desc=args.step, mininterval=0.5 if sys.stderr.isatty() else 20, disable=not items
        )

    if args.step == "clean":
        return clean(read_transcripts(args.transcript), args.out, run, shard, args.tokenizer, args.redo), True
    if args.step == "resample":
        pairs = shard.take(recordings(args.source, args.out))
        return report(run(partial(items.resample, rate=args.rate or data.sampling_rate), pairs), str(args.out))
    utterances = shard.take(read_utterances(args.list))
    if args.step == "spectrograms":
        return report(run(partial(items.spectrogram, data=data), utterances), "spectrograms")
    folders = encoders(args.model)
    function = partial(items.bert, folders=folders, add_blank=data.add_blank, half=args.half)
    text, complete = report(run(function, [u for u in utterances if u.language in folders]), "BERT features")
    without = Counter(u.language for u in utterances if u.language not in folders)
    return text + "".join(f"\n  {n} utterances in {name}: no --model for it" for name, n in without.items()), complete


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a step; return 0, or 1 after an error or if something that training needs is missing."""
    try:
        text, complete = run_step(parse(arguments))
    except TritoneError as error:
        print(error, file=sys.stderr)
        return 1
    print(text)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
