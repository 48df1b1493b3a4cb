"""Freed memory goes back to the system: once for many requests, and truly."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tritone.server.heap import Heap

FREED = """
import numpy as np
from tritone.server.heap import give_back, limit_heaps

def megabytes():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) >> 10

limit_heaps()
held = [np.ones(100_000, np.uint8) for _ in range(1500)]
full = megabytes()
held = held[::100]  # a few that stay hinder the library from giving back what lies between them
freed = megabytes()
give_back()
print(full, freed, megabytes())
"""


def test_memory_is_given_back_once_for_all_requests_that_end_meanwhile() -> None:
    given = threading.Semaphore(0)
    heap = Heap(pause=0.2, give=given.release)
    for _ in range(5):
        heap.ended()
    assert given.acquire(timeout=30)
    assert not given.acquire(timeout=0.5), "memory was given back more than once for the same requests"
    heap.ended()
    assert given.acquire(timeout=30), "memory is given back after later requests, too"


def test_a_closed_heap_gives_nothing_back() -> None:
    given = threading.Semaphore(0)
    heap = Heap(pause=0.2, give=given.release)
    heap.ended()
    heap.close()
    assert not given.acquire(timeout=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_freed_memory_goes_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    full, freed, given = map(int, run.stdout.split())
    assert full - freed < 30, "the C library does this itself; tritone.server.heap is not needed"
    assert freed - given > 100, f"{full} MB in use, {freed} MB after freeing most of it, {given} MB after giving back"
