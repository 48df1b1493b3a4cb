"""Trains Bert-VITS2 (`--config config.json --out runs/name`) in one process, or in several under torchrun.

`python -m training.bert_vits2.preprocess split` writes the configuration; `--set` overrides it for this run, and
`--out` records the values used. Started again with the same `--out`, training resumes where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from training.bert_vits2.build_run import build
from training.bert_vits2.checkpoints import CheckpointSets, sets
from training.bert_vits2.config import read
from training.bert_vits2.environment import differences, last_config, record
from training.core import distributed
from training.core.checkpointing import seed_everything
from training.core.logs import close_log, open_log
from training.core.loop import train
from tritone.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this recipe; its other settings are in the configuration."""
    parser.add_argument("--config", type=Path, required=True, help="config.json; it is not changed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="such as train.lr=1e-4; may be repeated"
    )
    parser.set_defaults(data=None, seed=None, eval_every=None, save_every=None)


def main(args: argparse.Namespace) -> int:
    """Train for the configured epochs, `--steps` or `--minutes`, and return the number of steps done."""
    if args.data is not None or args.smoke:
        raise ConfigError("bert_vits2 takes its data and its sizes from --config; leave out --data and --smoke.")
    options = {"seed": args.seed, "eval_interval": args.eval_every, "save_interval": args.save_every}
    overrides = [f"train.{name}={value}" for name, value in options.items() if value is not None]
    settings = read(args.config, [*args.set, *overrides])
    out = args.out or Path("runs/bert_vits2")
    config, log = settings.train, open_log(out)
    try:
        document, before = settings.document(), last_config(out)
        distributed.barrier()  # every process reads the last start before this one is written
        changes = differences(before, document) if before else []
        if changes:
            log.warning("the configuration has changed since %s was last started: %s", out, "; ".join(changes))
        if distributed.rank() == 0:
            record(out, document, args.device)
        if args.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
            torch.backends.cudnn.allow_tf32 = config.tf32
        seed_everything(config.seed)
        run, data = build(settings, args.device, fresh=not sets(out))
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        store = CheckpointSets(out, config.keep, text, data.order, config.skip_optimizer)
        seed_everything(config.seed + 1 + distributed.rank())  # equal weights, but different noise in each process
        return train(
            run, out, args.steps, args.minutes, config.eval_interval, config.save_interval,
            log_every=config.log_interval, store=store,
        )  # fmt: skip
    except Exception:
        log.exception("training ended with an error")
        raise
    finally:
        close_log(log)
