"""Find the nodes of a stage that have to stay fp32, and print the `keep_fp32` patterns to put in the stage.

    python export/bisect_fp16.py checkpoints/nano --stage vocoder [--quick]

The search starts from all fp16 and keeps the first node that leaves tolerance; if that node is kept already, it keeps
the fp16 node before it with the largest error. At the end it removes every kept node that is not needed. The stage's
fp32 ONNX file must be built. fp16 is simulated; `tritone/parity/fp16_measures.py` says what that shows and what not.
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
from tritone.parity.fp16_measures import measures
from tritone.parity.fp16_probe import BadNode, first_bad, half_nodes
from tritone.stage import Arrays, Stage

MARGIN = 0.5
"""The part of the stage's tolerance that outputs may use: inputs beyond those of the search have to fit, too."""
NODE_TOLERANCE = 2e-2
"""The tolerance of every node: an output may be right by luck although a node before it is not."""
Report = Callable[[str], None]


class Search:
    """The search for the nodes of one stage to keep, with its fp32 file and the inputs it is compared on."""

    def __init__(self, stage: Stage, path: Path, cases: list[tuple[str, Arrays]], tolerance: float) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; run: tritone build --formats onnx")
        self.stage, self.cases, self.tolerance, self._path = stage, cases, tolerance, path
        self.fp32 = prepared(load(path))

    def mixed(self, keep: Iterable[str]) -> Any:
        """Return the mixed model with those nodes or patterns kept."""
        return mixed(load(self._path), keep, f"stage {self.stage.name}")

    def first_bad(self, keep: Iterable[str], margin: float = MARGIN) -> tuple[str, BadNode] | None:
        """Return the first node out of tolerance and the point of the inputs, or None."""
        model = self.mixed(keep)
        for point, inputs in self.cases:
            bad = first_bad(self.stage, self.fp32, model, inputs, NODE_TOLERANCE, self.tolerance * margin)
            if bad is not None:
                return point, bad
        return None

    def minimal(self, report: Report) -> list[str]:
        """Return the names of the nodes to keep, in the order of the graph."""
        keep: list[str] = []
        for name, problem in rewrite(prepared(load(self._path)), set()).items():
            report(f"keep {name}: {problem}")
            keep.append(name)
        forced = set(keep)
        while (failure := self.first_bad(keep)) is not None:
            point, bad = failure
            name = self.to_keep(bad.name, keep)
            report(f"keep {name}: at the {point} sizes {bad}")
            keep.append(name)
        for name in [name for name in reversed(keep) if name not in forced]:
            rest = [other for other in keep if other != name]
            if self.first_bad(rest) is None:
                report(f"release {name}: not needed")
                keep = rest
        order = {node.name: index for index, node in enumerate(self.fp32.graph.node)}
        return sorted(keep, key=lambda name: order[name])

    def to_keep(self, name: str, keep: list[str]) -> str:
        """Return the node to keep when a node is out of tolerance.

        It is the node itself if it computes in fp16, else of the nearest fp16 nodes before it the one with the largest
        error of its own.
        """
        model = self.mixed(keep)
        halves, before = half_nodes(model), float_inputs(self.fp32)
        level, seen = {name}, {name}
        while level and not level & halves:
            level = {other for node in level for other in before[node]} - seen
            seen |= level
        nearest = level & halves
        if not nearest:
            raise ArtifactError(
                f"stage {self.stage.name}: {name} is out of tolerance with every node before it in fp32; "
                "raise the stage's fp16_tolerance or keep the whole stage"
            )
        own = dict.fromkeys(sorted(nearest), 0.0)
        for _, inputs in self.cases[:2] if len(own) > 1 else []:
            for measure in measures(self.stage, self.fp32, model, inputs):
                if measure.name in nearest:
                    own[measure.name] = max(own[measure.name], measure.own)
        return max(own, key=lambda other: own[other])

    def patterns(self, keep: list[str]) -> tuple[str, ...]:
        """Return the names with layer numbers replaced by `*`, without those that another pattern covers."""
        general = dict.fromkeys(re.sub(r"(?<=\.)\d+", "*", name) for name in keep)
        return tuple(p for p in general if not any(p != other and fnmatchcase(p, other) for other in general))

    def errors(self, keep: Iterable[str]) -> dict[str, float]:
        """Return the largest error of the stage's outputs by point."""
        model = self.mixed(keep)
        last = {value.name for value in self.fp32.graph.output}
        return {
            point: max(
                (m.error for m in measures(self.stage, self.fp32, model, inputs) if m.output in last), default=0.0
            )
            for point, inputs in self.cases
        }


def cases(stage: Stage, seed: int, quick: bool) -> list[tuple[str, Arrays]]:
    """Return inputs by point: two each at the smallest and usual (batched, ragged) sizes, one at the largest."""
    listed = []
    for point, sizes in points(stage, quick):
        for repeat in range(1 if point == "largest" else 2):
            listed.append((point, stage.example(sizes, seed + repeat)))
    return listed


def main(arguments: list[str] | None = None, report: Report = print) -> int:
    """Search one stage or all; return the exit status."""
    parser = Parser(prog="python export/bisect_fp16.py", description=__doc__)
    parser.add_checkpoint()
    parser.add_argument("--out", type=Path, help="build folder with the fp32 ONNX files (default: build/<checkpoint>)")
    parser.add_argument("--stage", help="only this stage (default: all)")
    parser.add_argument("--tolerance", type=float, help="largest error (default: the stage's fp16_tolerance)")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--check", action="store_true", help="only check the patterns the stage declares")
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
    """Check or search one stage and report the outcome; return False when its patterns do not suffice."""
    tolerance = args.tolerance or stage.fp16_tolerance
    task = Search(stage, stage_path(args.out, stage.name), cases(stage, args.seed, args.quick), tolerance)
    if args.check:
        bad = task.first_bad(stage.keep_fp32, margin=1.0)
        patterns = stage.keep_fp32
        report(f"{stage.name}: {f'at the {bad[0]} sizes {bad[1]}' if bad else 'every node is within tolerance'}")
    else:
        bad, patterns = None, task.patterns(task.minimal(report))
        report(f"{stage.name}: keep_fp32={patterns!r}")
    errors = task.errors(patterns)
    report(f"{stage.name}: {', '.join(f'{point} {error:.1e}' for point, error in errors.items())} of {tolerance:.1e}")
    return bad is None and max(errors.values()) <= tolerance


if __name__ == "__main__":
    sys.exit(main())
