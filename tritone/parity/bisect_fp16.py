"""Which nodes of a stage have to stay fp32? Finds them and prints the `keep_fp32` patterns to put in the stage.

    python export/bisect_fp16.py --model-dir checkpoints/nano --out build/nano --stage vocoder [--quick]

Starting from all fp16, the first node that leaves tolerance is kept; if it is kept already, the fp16 node before it
that errs most. At the end every kept node that is not needed is given back. The stage's fp32 ONNX file must be built.
fp16 is simulated; see `tritone/parity/fp16_probe.py` for what that shows and what it does not.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tritone.build.layout import default_folder, stage_path
from tritone.catalog import open_family
from tritone.cli.parser import Parser
from tritone.errors import ArtifactError, ConfigError, TritoneError
from tritone.export.onnx_file import load
from tritone.export.onnx_graph import float_inputs, prepared
from tritone.export.to_fp16 import mixed, rewrite
from tritone.parity.compare import points
from tritone.parity.fp16_probe import BadNode, first_bad, half_nodes, measures
from tritone.stage import Arrays, Stage

MARGIN = 0.5
"""Of the stage's tolerance, demanded of the outputs: other inputs than those of the search have to fit too."""
NODE_TOLERANCE = 2e-2
"""Demanded of every node: an output may be right by luck where a node before it is not."""
Report = Callable[[str], None]


class Search:
    """One stage's fp32 file, the inputs it is judged on, and the search for what to keep."""

    def __init__(self, stage: Stage, path: Path, cases: list[tuple[str, Arrays]], tolerance: float) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; run: tritone build --formats onnx")
        self.stage, self.cases, self.tolerance, self._path = stage, cases, tolerance, path
        self.fp32 = prepared(load(path))

    def mixed(self, keep: Iterable[str]) -> Any:
        """Return the mixed model with those nodes or patterns kept."""
        return mixed(load(self._path), keep, f"stage {self.stage.name}")

    def first_bad(self, keep: Iterable[str], margin: float = MARGIN) -> tuple[str, BadNode] | None:
        """Return the point and the first node out of tolerance there."""
        model = self.mixed(keep)
        for point, inputs in self.cases:
            bad = first_bad(self.stage, self.fp32, model, inputs, NODE_TOLERANCE, self.tolerance * margin)
            if bad is not None:
                return point, bad
        return None

    def minimal(self, report: Report) -> list[str]:
        """Return names of the nodes to keep, in the order of the graph."""
        keep: list[str] = []
        for name, problem in rewrite(prepared(load(self._path)), set()).items():
            report(f"keep {name}: {problem}")
            keep.append(name)
        forced = set(keep)
        while (found := self.first_bad(keep)) is not None:
            point, bad = found
            name = self.blamed(bad.name, keep)
            report(f"keep {name}: at the {point} sizes {bad}")
            keep.append(name)
        for name in [name for name in reversed(keep) if name not in forced]:
            rest = [other for other in keep if other != name]
            if self.first_bad(rest) is None:
                report(f"give back {name}")
                keep = rest
        order = {node.name: index for index, node in enumerate(self.fp32.graph.node)}
        return sorted(keep, key=lambda name: order[name])

    def blamed(self, name: str, keep: list[str]) -> str:
        """Return the node itself while it computes in fp16, else the nearest fp16 node before it that errs most by
        itself.
        """
        model = self.mixed(keep)
        halves, before = half_nodes(model), float_inputs(self.fp32)
        level, seen = {name}, {name}
        while level and not level & halves:
            level = {other for node in level for other in before[node]} - seen
            seen |= level
        found = level & halves
        if not found:
            raise ArtifactError(
                f"stage {self.stage.name}: {name} is out of tolerance with every node before it in fp32; "
                "raise the stage's fp16_tolerance or keep the whole stage"
            )
        own = dict.fromkeys(sorted(found), 0.0)
        for _, inputs in self.cases[:2] if len(own) > 1 else []:
            for measure in measures(self.stage, self.fp32, model, inputs):
                if measure.name in found:
                    own[measure.name] = max(own[measure.name], measure.own)
        return max(own, key=lambda other: own[other])

    def patterns(self, keep: list[str]) -> tuple[str, ...]:
        """Return the names with the numbers of layers replaced by `*`, those that another pattern covers left out."""
        general = dict.fromkeys(re.sub(r"(?<=\.)\d+", "*", name) for name in keep)
        return tuple(p for p in general if not any(p != other and fnmatchcase(p, other) for other in general))

    def errors(self, keep: Iterable[str]) -> dict[str, float]:
        """Largest error of the stage's outputs by point."""
        model = self.mixed(keep)
        last = {value.name for value in self.fp32.graph.output}
        return {
            point: max(
                (m.error for m in measures(self.stage, self.fp32, model, inputs) if m.output in last), default=0.0
            )
            for point, inputs in self.cases
        }


def cases(stage: Stage, seed: int, quick: bool) -> list[tuple[str, Arrays]]:
    """Inputs at the smallest, usual (batched, ragged) and unless quick largest sizes; two each of the cheap ones."""
    listed = []
    for point, sizes in points(stage, quick):
        for repeat in range(1 if point == "largest" else 2):
            listed.append((point, stage.example(sizes, seed + repeat)))
    return listed


def main(arguments: list[str] | None = None, report: Report = print) -> int:
    """Search one stage or all; returns the exit status."""
    parser = Parser(prog="python export/bisect_fp16.py", description=__doc__)
    parser.add_checkpoint()
    parser.add_argument("--out", type=Path, help="build folder with the fp32 ONNX files (default: build/<checkpoint>)")
    parser.add_argument("--stage", help="only this stage (default: all)")
    parser.add_argument("--tolerance", type=float, help="largest error (default: the stage's fp16_tolerance)")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--check", action="store_true", help="only judge the patterns the stage declares")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="seed of the inputs (default: the clock)")
    args = parser.parse_args(arguments)
    args.out = args.out or default_folder(args.model_dir)
    try:
        family = open_family(args.model_dir)
        names = [stage.name for stage in family.stages]
        if args.stage and args.stage not in names:
            raise ConfigError(f"{family.name} has no stage {args.stage!r}; there are {', '.join(names)}")
        bad = [s.name for s in family.stages if args.stage in (None, s.name) and not search(s, args, report)]
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if bad else 0


def search(stage: Stage, args: argparse.Namespace, report: Report) -> bool:
    """Judge or search one stage and print the outcome; False when its declared patterns do not suffice."""
    tolerance = args.tolerance or stage.fp16_tolerance
    task = Search(stage, stage_path(args.out, stage.name), cases(stage, args.seed, args.quick), tolerance)
    if args.check:
        found = task.first_bad(stage.keep_fp32, margin=1.0)
        patterns = stage.keep_fp32
        report(f"{stage.name}: {f'at the {found[0]} sizes {found[1]}' if found else 'every node is within tolerance'}")
    else:
        found, patterns = None, task.patterns(task.minimal(report))
        report(f"{stage.name}: keep_fp32={patterns!r}")
    errors = task.errors(patterns)
    report(f"{stage.name}: {', '.join(f'{point} {error:.1e}' for point, error in errors.items())} of {tolerance:.1e}")
    return found is None and max(errors.values()) <= tolerance


if __name__ == "__main__":
    sys.exit(main())
