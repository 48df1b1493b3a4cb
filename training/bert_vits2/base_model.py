"""The files training starts from: fetched by one command, and loaded strictly."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from training.bert_vits2.config import read
from training.bert_vits2.download import fetch
from training.core.run import LOG
from tritone.checkpoint.weights import load_strict
from tritone.errors import CheckpointError, ConfigError, TritoneError
from tritone.families.bert_vits2.networks.weights import read_model
from tritone.nn.weight_norm import older_layout


def load_base(networks: Mapping[str, nn.Module], folder: Path, allow_partial: bool = False) -> dict[str, Path]:
    """Which file of `folder` each network got its weights from: `<network>_<number>.pth` of the highest number.

    Networks without a file keep fresh weights, which the log tells; all but the generator, "G", may be without. With
    `allow_partial` so do parameters that are missing in a file or have another shape there.

    Raises:
        CheckpointError: no generator, a file that cannot be read, or (without `allow_partial`) one that does not fit.
    """
    used: dict[str, Path] = {}
    for name, network in networks.items():
        found = {int(m[1]): p for p in folder.glob("*.pth") if (m := re.fullmatch(rf"{name}_(\d+)\.pth", p.name))}
        if not found:
            LOG.warning("the base model in %s has no %s_*.pth: %s starts from fresh weights", folder, name, name)
            continue
        path = used[name] = found[max(found)]
        state = {k: v.float() if v.is_floating_point() else v for k, v in read_model(path).items()}
        if not allow_partial:
            try:
                load_strict(network, state, path)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{error} To start from what fits, set train.base_model.allow_partial=true."
                ) from error
            continue
        state, own = older_layout(state), older_layout(network.state_dict())
        fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
        if not fits:
            raise CheckpointError(f"nothing in {path} fits {name}; its first key is {next(iter(state))}.")
        for what, keys in (("kept fresh", own.keys() - fits.keys()), ("not used", state.keys() - fits.keys())):
            if keys:
                LOG.warning("%s: %d keys %s: %s", path, len(keys), what, ", ".join(sorted(keys)))
        network.load_state_dict(fits, strict=False)
    if "G" not in used:
        raise CheckpointError(f"{folder} has no G_<number>.pth to start from; it has {_listing(folder)}.")
    return used


def main(arguments: list[str] | None = None) -> None:
    """`python -m training.bert_vits2.base_model --config config.json` fetches the base model without training."""
    parser = argparse.ArgumentParser(prog="python -m training.bert_vits2.base_model", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args(arguments)
    base = read(args.config, args.set).train.base
    if not base.files:
        raise ConfigError(f"{args.config} has no train.base_model.files to fetch.")
    for path in fetch(base.files, base.places(), Path(base.folder)):
        print(path)


def _listing(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing" if folder.is_dir() else "not been made"


if __name__ == "__main__":
    try:
        main()
    except TritoneError as error:
        sys.exit(f"error: {error}")
