"""Memory that is left: of the machine, or of a container with a smaller limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritone.supervisor import memory
from tritone.supervisor.memory import Budget, available, total

MIB = 1 << 20


def machine(folder: Path, free: int, files: dict[str, str]) -> tuple[Path, Path]:
    """Write a machine of 1000 MiB with so much free, and a container's limits; return the two paths to read."""
    (folder / "meminfo").write_text(f"MemTotal: {1000 * 1024} kB\nMemAvailable: {free * 1024} kB\n")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder, folder / "meminfo"


@pytest.mark.parametrize(
    ("files", "left", "whole"),
    [
        ({}, 600, 1000),
        ({"memory.max": "max", "memory.current": "5"}, 600, 1000),
        ({"memory.max": str(500 * MIB), "memory.current": str(300 * MIB)}, 200, 500),
        (
            {
                "memory.max": str(500 * MIB),
                "memory.current": str(450 * MIB),
                "memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
            },
            150,
            500,
        ),
        (
            {
                "memory/memory.limit_in_bytes": str(400 * MIB),
                "memory/memory.usage_in_bytes": str(100 * MIB),
            },
            300,
            400,
        ),
        ({"memory.max": str(100 * MIB), "memory.current": str(150 * MIB)}, 0, 100),
    ],
)
def test_the_smaller_limit_counts(tmp_path: Path, files: dict[str, str], left: int, whole: int) -> None:
    paths = machine(tmp_path, 600, files)
    assert available(*paths) == left * MIB
    assert total(*paths) == whole * MIB


def test_a_budget_refuses_what_does_not_fit_and_learns_what_a_stream_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 350 * MIB)
    budget = Budget(reserve=256 * MIB, cost=64 * MIB)
    assert budget.problem() == ""
    budget.learn(idle=500 * MIB, now=900 * MIB, streams=4)
    assert budget.cost == 100 * MIB
    assert budget.problem() == (
        "this machine has 350 MB of memory left, and a request needs 100 MB beside 256 MB of reserve"
    )
    budget.learn(idle=500 * MIB, now=520 * MIB, streams=2)
    assert budget.cost == 100 * MIB
