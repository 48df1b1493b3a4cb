"""Write the README's table of what can be exported and where it is served: `python export/docs.py [--check]`.

The table stands between two marker lines and is made from the code's own lists, so it cannot promise what is not there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from export.build_engines import FORMATS as BUILDABLE
from tritone.catalog import KINDS, open_family
from tritone.serve import TARGETS

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- table: python export/docs.py -->", "<!-- end of table -->"
FORMATS = {"onnx": "ONNX fp32", "llm": "onnxruntime-genai int8, int4, fp32"}


def table() -> str:
    """The Markdown table of checkpoint kinds, stages, formats and targets."""
    rows = ["| checkpoint | model | stages | stage formats | language model | served on |", "|---|---|---|---|---|---|"]
    family = open_family(ROOT / "checkpoints" / "nano")
    names = [f"`{stage.name}`" for stage in family.stages]
    stage_format = ", ".join(FORMATS[name] for name in BUILDABLE if name != "llm")
    targets = ", ".join(TARGETS)
    for kind in KINDS:
        cells = (f"`{kind}`", family.name, ", ".join(names), stage_format, FORMATS["llm"], targets)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> int:
    """Writes the table; with --check, exits 1 when the README differs from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    fresh = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if args.check and fresh != text:
        print(f"{readme.name}: the table is out of date; run: python export/docs.py", file=sys.stderr)
        return 1
    if not args.check:
        readme.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
