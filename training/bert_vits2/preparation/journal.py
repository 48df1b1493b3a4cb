"""Results of single lines, kept as they come, so that interrupted and sharded runs add up to one whole run.

One JSON object a line, appended and flushed; a line torn by a crash or a full disk is skipped when reading. Every shard
has a file of its own beside the result, and what is read is what all of them know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import tritone
from training.bert_vits2.data.arrays import room
from training.bert_vits2.preparation.items import Outcome
from training.bert_vits2.preparation.shards import Shard


class Journal:
    """Outcomes by the line they are of, as far as this version of the package found them.

    Args:
        out: the result the lines are for. by: what the outcomes depend on besides the lines and this package.
    """

    def __init__(self, out: Path, shard: Shard, by: str) -> None:
        self.by = f"{tritone.__version__}, {by}"
        self.path = out.with_name(f"{out.name}.journal-{shard.index}of{shard.count}.jsonl")
        self._found: dict[str, Outcome] = {}
        for path in sorted(out.parent.glob(f"{out.name}.journal-*.jsonl")):
            for key, outcome in _entries(path, self.by) if path.is_file() else ():
                if outcome.line or key not in self._found or not self._found[key].line:
                    self._found[key] = outcome

    def get(self, line: str) -> Outcome | None:
        """What is known of a line."""
        return self._found.get(_key(line))

    def add(self, results: Iterable[tuple[str, Outcome]]) -> None:
        """Keeps the outcomes of lines as they come; EnvironmentProblem when the disk is full."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with room(self.path), open(self.path, "ab") as file:
            file.write(b"\n")  # ends what a crash may have left
            for line, outcome in results:
                entry = {"key": _key(line), "by": self.by, "name": outcome.name, "line": outcome.line,
                         "problem": outcome.problem}  # fmt: skip
                file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
                file.flush()
                self._found[_key(line)] = outcome

    def forget(self) -> None:
        """Drops this shard's file and all that was read."""
        self.path.unlink(missing_ok=True)
        self._found.clear()


def _key(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:24]


def _entries(path: Path, by: str) -> list[tuple[str, Outcome]]:
    found = []
    for text in path.read_bytes().split(b"\n"):
        try:
            entry = json.loads(text)
            if entry["by"] == by:
                outcome = Outcome(entry["name"], bool(entry["line"]), entry["problem"], entry["line"])
                found.append((str(entry["key"]), outcome))
        except (ValueError, KeyError, TypeError):
            continue
    return found
