"""A journal of the results of single lines, so that interrupted and sharded runs add up to a complete run.

There is one JSON object per line, appended and flushed; a line cut off by a crash or a full disk is skipped when
reading. Every shard writes a file of its own beside the result, and reads the files of all shards.
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
    """The outcomes of lines, as far as this version of the package has computed them.

    Args:
        out: the file that the lines are for.
        by: other inputs of the outcomes, besides the lines and this package.
    """

    def __init__(self, out: Path, shard: Shard, by: str) -> None:
        self.by = f"{tritone.__version__}, {by}"
        self.path = out.with_name(f"{out.name}.journal-{shard.index}of{shard.count}.jsonl")
        self._outcomes: dict[str, Outcome] = {}
        for path in sorted(out.parent.glob(f"{out.name}.journal-*.jsonl")):
            for key, outcome in _entries(path, self.by) if path.is_file() else ():
                if outcome.line or key not in self._outcomes or not self._outcomes[key].line:
                    self._outcomes[key] = outcome

    def get(self, line: str) -> Outcome | None:
        """Return the outcome of a line, None if it is not known yet."""
        return self._outcomes.get(_key(line))

    def add(self, results: Iterable[tuple[str, Outcome]]) -> None:
        """Append the outcomes of lines as they arrive; raise EnvironmentProblem if the disk is full."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with room(self.path), open(self.path, "ab") as file:
            file.write(b"\n")  # ends a line that a crash may have cut off
            for line, outcome in results:
                entry = {"key": _key(line), "by": self.by, "name": outcome.name, "line": outcome.line,
                         "problem": outcome.problem}  # fmt: skip
                file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
                file.flush()
                self._outcomes[_key(line)] = outcome

    def forget(self) -> None:
        """Delete this shard's file, and forget all outcomes."""
        self.path.unlink(missing_ok=True)
        self._outcomes.clear()


def _key(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:24]


def _entries(path: Path, by: str) -> list[tuple[str, Outcome]]:
    entries = []
    for text in path.read_bytes().split(b"\n"):
        try:
            entry = json.loads(text)
            if entry["by"] == by:
                outcome = Outcome(entry["name"], bool(entry["line"]), entry["problem"], entry["line"])
                entries.append((str(entry["key"]), outcome))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return entries
