"""The base model that training starts from: downloaded by one command, and loaded strictly."""

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
    """Load weights into the networks, and return the file that each network was loaded from.

    The file of a network is the `<network>_<number>.pth` with the highest number in `folder`. A network without a file
    keeps its fresh weights, with a warning; only the generator, "G", must have one. With `allow_partial`, parameters
    that are missing in the file or have another shape there keep their fresh weights too.

    Raises:
        CheckpointError: the generator is missing, or a file cannot be read or (without `allow_partial`) does not fit.
    """
    used: dict[str, Path] = {}
    for name, network in networks.items():
        files = {int(m[1]): p for p in folder.glob("*.pth") if (m := re.fullmatch(rf"{name}_(\d+)\.pth", p.name))}
        if not files:
            LOG.warning("the base model in %s has no %s_*.pth: %s starts from fresh weights", folder, name, name)
            continue
        path = used[name] = files[max(files)]
        state = {k: v.float() if v.is_floating_point() else v for k, v in read_model(path).items()}
        if not allow_partial:
            try:
                load_strict(network, state, path)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{error} To load only the parameters that fit, set train.base_model.allow_partial=true."
                ) from error
            continue
        state, own = older_layout(state), older_layout(network.state_dict())
        fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
        if not fits:
            raise CheckpointError(f"no parameter in {path} fits {name}; its first key is {next(iter(state))}.")
        for what, keys in (("kept fresh", own.keys() - fits.keys()), ("not used", state.keys() - fits.keys())):
            if keys:
                LOG.warning("%s: %d keys %s: %s", path, len(keys), what, ", ".join(sorted(keys)))
        network.load_state_dict(fits, strict=False)
    if "G" not in used:
        raise CheckpointError(f"{folder} has no G_<number>.pth to start from; found {_listing(folder)}.")
    return used


def main(arguments: list[str] | None = None) -> None:
    """Download the base model of a configuration without training."""
    parser = argparse.ArgumentParser(prog="python -m training.bert_vits2.base_model", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.json with train.base_model")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="overrides a value of the file"
    )
    args = parser.parse_args(arguments)
    base = read(args.config, args.set).train.base
    if not base.files:
        raise ConfigError(f"{args.config} has no train.base_model.files to fetch.")
    for path in fetch(base.files, base.places(), Path(base.folder)):
        print(path)


def _listing(folder: Path) -> str:
    return (
        ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing" if folder.is_dir() else "no such folder"
    )


if __name__ == "__main__":
    try:
        main()
    except TritoneError as error:
        sys.exit(f"error: {error}")
