"""`python -m training <recipe>`: train one network or a whole voice; `torchrun -m training ...` uses several
devices.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch

from training.core import distributed, lineage
from training.core.checkpointing import seed_everything
from training.core.loop import train
from training.recipes import RECIPES
from tritone.cli.parser import Parser
from tritone.errors import TritoneError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line; a recipe may add options with a function `arguments(parser)`."""
    parser = Parser(prog="tritone train", description=__doc__)
    parser.add_argument("recipe", choices=RECIPES, help="the recipe; tritone train RECIPE --help has its options")
    parser.add_argument(
        "--data", type=Path, default=Path("data/nano"), help="corpus made by python -m training.prepare"
    )
    parser.add_argument("--out", type=Path, help="folder of checkpoints and logs (default: runs/<recipe>)")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's own number)")
    parser.add_argument("--minutes", type=float, help="length of the run and of its learning-rate schedule")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to test that everything runs")
    parser.add_argument(
        "--device", type=torch.device, default=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        help="torch device of the training",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "0")),
        help="CPU threads (default: OMP_NUM_THREADS, or torch's own choice)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise")
    parser.add_argument("--eval-every", type=int, default=500, help="steps between evaluations")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The help of a recipe includes its own options, so it waits until they are added.
    chosen = any(word in RECIPES for word in given)
    known, _ = parser.parse_known_args([word for word in given if not (chosen and word in ("-h", "--help"))])
    recipe = importlib.import_module(RECIPES[known.recipe])
    if hasattr(recipe, "arguments"):
        recipe.arguments(parser)
    args: argparse.Namespace = parser.parse_args(given)
    if args.out is None and not hasattr(recipe, "main"):
        args.out = Path("runs") / args.recipe.removeprefix("cosyvoice_")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    args.device = distributed.start(args.device)
    seed_everything(args.seed or 0)  # None when the recipe's configuration sets it
    recipe = importlib.import_module(RECIPES[args.recipe])
    if hasattr(recipe, "main"):
        recipe.main(args)
        return
    run = recipe.build(args)
    if getattr(args, "start", None) and distributed.rank() == 0:
        lineage.record(args.out, args.start)
    seed_everything(args.seed + 1 + distributed.rank())  # processes start from equal weights but draw different noise
    train(run, args.out, args.steps, args.minutes, args.eval_every, args.save_every)


if __name__ == "__main__":
    try:
        main()
    except TritoneError as error:
        sys.exit(f"error: {error}")
