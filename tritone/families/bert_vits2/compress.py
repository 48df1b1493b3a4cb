"""Make a folder to serve from a training folder: the configuration and one small generator file.

    tritone convert compress models/mine served/mine           # the newest generator
    tritone convert compress models/mine/G_5000.pth served/mine --fp32

The posterior encoder and the optimiser are left out, and weights are stored in half precision; synthesis still
computes in float32. BERT encoders are not copied: put their folders below `bert/`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tritone.cli.parser import Parser
from tritone.errors import CheckpointError, TritoneError
from tritone.families.bert_vits2.config import read_config
from tritone.families.bert_vits2.emotion_input import OWN_EMOTIONS
from tritone.families.bert_vits2.locate import config_file, generator_file
from tritone.families.bert_vits2.networks.weights import compress


def compress_folder(source: Path, target: Path, half: bool = True) -> Path:
    """Write the small file and the configuration into `target`, and return the path of the small file.

    Args:
        source: a generator file with config.json beside it, or a folder, whose newest generator is used.

    Raises:
        CheckpointError: the file is missing or is not a generator, or `target` already has a generator.
        ConfigError: the configuration is missing or invalid.
    """
    path = generator_file(source) if source.is_dir() else source
    config = config_file(source if source.is_dir() else path.parent, path)
    read_config(config)
    present = sorted(target.glob("G_*.pth")) if target.is_dir() else []
    if present:
        raise CheckpointError(f"{target} already has {present[0].name}; choose another folder, or remove that file")
    target.mkdir(parents=True, exist_ok=True)
    small = target / f"{path.stem}.pth"
    compress(path, small, half)
    shutil.copyfile(config, target / config.name)
    for own in ((source if source.is_dir() else path.parent) / name for name in OWN_EMOTIONS):
        if own.is_file():
            shutil.copyfile(own, target / own.name)
    return small


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after an error on stderr."""
    parser = Parser(prog="tritone convert compress", description=__doc__)
    parser.add_argument("source", type=Path, help="a G_<step>.pth, or a folder, whose newest generator is used")
    parser.add_argument("target", type=Path, help="folder to write")
    parser.add_argument("--fp32", action="store_true", help="keep the precision of the weights (default: float16)")
    options = parser.parse_args(arguments)
    try:
        small = compress_folder(options.source, options.target, half=not options.fp32)
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{small}: {small.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
