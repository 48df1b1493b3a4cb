"""Which nodes of a stage have to stay fp32? Finds them and prints the `keep_fp32` patterns to put in the stage.

    python export/bisect_fp16.py --model-dir checkpoints/nano --out build/nano --stage vocoder [--quick]

Starting from all fp16, the first node that leaves tolerance is kept; if it is kept already, the fp16 node before it
that errs most. At the end every kept node that is not needed is given back. The stage's fp32 ONNX file must be built.
The search demands half of the stage's fp16 tolerance, of every node and not of the outputs alone: inputs other than
these have to fit too, and an output may be right by chance where a node before it is not. fp16 is simulated, see
`export/fp16_probe.py`.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from export.compare import points
from export.fp16_probe import BadNode, first_bad, half_nodes, measures
from export.onnx_graph import FLOAT, prepared, types
from export.to_fp16 import mixed, rewrite
from tritone.artifacts import stage_path
from tritone.catalog import open_family
from tritone.errors import ArtifactError, ConfigError, TritoneError
from tritone.stage import Arrays, Stage

MARGIN = 0.5
"""Of the stage's tolerance, demanded by the search."""
Report = Callable[[str], None]


class Search:
    """One stage's fp32 file, the inputs it is judged on, and the search for what to keep."""

    def __init__(self, stage: Stage, path: Path, cases: list[tuple[str, Arrays]], tolerance: float) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; build it with python export/build_engines.py --formats onnx")
        self.stage, self.cases, self.tolerance = stage, cases, tolerance
        self._bytes = path.read_bytes()

    def fp32(self) -> Any:
        """The fp32 model, a fresh copy."""
        import onnx

        return onnx.load_from_string(self._bytes)

    def mixed(self, keep: Iterable[str]) -> Any:
        """The mixed model with those nodes or patterns kept."""
        return mixed(self.fp32(), keep, f"stage {self.stage.name}")

    def first_bad(self, keep: Iterable[str], tolerance: float) -> tuple[str, BadNode] | None:
        """The point and the first node out of tolerance there."""
        model = self.mixed(keep)
        for point, inputs in self.cases:
            bad = first_bad(self.stage, self.fp32(), model, inputs, tolerance)
            if bad is not None:
                return point, bad
        return None

    def minimal(self, report: Report) -> list[str]:
        """Names of the nodes to keep, in the order of the graph."""
        keep: list[str] = []
        for name, problem in rewrite(prepared(self.fp32()), set()).items():
            report(f"keep {name}: {problem}")
            keep.append(name)
        forced = set(keep)
        while (found := self.first_bad(keep, self.tolerance * MARGIN)) is not None:
            point, bad = found
            name = self.blamed(bad.name, keep)
            report(f"keep {name}: at the {point} sizes {bad}")
            keep.append(name)
        for name in [name for name in reversed(keep) if name not in forced]:
            rest = [other for other in keep if other != name]
            if self.first_bad(rest, self.tolerance * MARGIN) is None:
                report(f"give back {name}")
                keep = rest
        order = {node.name: index for index, node in enumerate(prepared(self.fp32()).graph.node)}
        return sorted(keep, key=lambda name: order[name])

    def blamed(self, name: str, keep: list[str]) -> str:
        """The node itself while it computes in fp16, else the nearest fp16 node before it that errs most by itself."""
        model = self.mixed(keep)
        halves = half_nodes(model)
        if name in halves:
            return name
        fp32 = prepared(self.fp32())
        floats = {value for value, kind in types(fp32).items() if kind == FLOAT}
        maker = {value: node for node in fp32.graph.node for value in node.output if value in floats}
        by_name = {node.name: node for node in fp32.graph.node}
        level, seen, found = [by_name[name]], {name}, set()
        while level:
            before = {maker[value].name: maker[value] for node in level for value in node.input if value in maker}
            fresh = {other: node for other, node in before.items() if other not in seen}
            seen |= set(fresh)
            found |= set(fresh) & halves
            level = [node for other, node in fresh.items() if other not in halves]
        if not found:
            raise ArtifactError(
                f"stage {self.stage.name}: {name} leaves {self.tolerance * MARGIN:.1e} with every node before it in "
                "fp32; raise the stage's fp16_tolerance or keep the stage out of fp16"
            )
        own = dict.fromkeys(found, 0.0)
        for _, inputs in self.cases[:2]:
            for measure in measures(self.stage, self.fp32(), model, inputs):
                if measure.name in found:
                    own[measure.name] = max(own[measure.name], measure.own)
        return max(own, key=lambda other: own[other])

    def patterns(self, keep: list[str]) -> tuple[str, ...]:
        """The names with the numbers of layers replaced by `*`, those that another pattern covers left out."""
        general = dict.fromkeys(re.sub(r"(?<=\.)\d+", "*", name) for name in keep)
        return tuple(p for p in general if not any(p != other and fnmatchcase(p, other) for other in general))

    def errors(self, keep: Iterable[str]) -> dict[str, float]:
        """Largest error of the stage's outputs by point."""
        model = self.mixed(keep)
        last = [value.name for value in self.fp32().graph.output]
        return {
            point: max(
                (m.error for m in measures(self.stage, self.fp32(), model, inputs) if m.output in last), default=0.0
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, required=True, help="checkpoint directory")
    parser.add_argument("--out", type=Path, required=True, help="build folder with the fp32 ONNX files")
    parser.add_argument("--stage", help="only this stage")
    parser.add_argument("--tolerance", type=float, help="instead of the stage's fp16_tolerance")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    parser.add_argument("--check", action="store_true", help="only judge the patterns the stage declares")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the inputs (default: from the clock)")
    args = parser.parse_args(arguments)
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
        found = task.first_bad(stage.keep_fp32, tolerance)
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
