"""Page faults of a process that takes and frees again and again what a request with large content does."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROUNDS = 20
BLOCKS = 3  # of 1 MiB each: together more than glibc keeps before it has seen a larger one

FAULTS = f"""
import resource
from fastserve.allocator import keep_freed_memory
keep_freed_memory()
began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    [bytearray(1 << 20) for _ in range({BLOCKS})]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began, resource.getpagesize())
"""


def faults() -> float:
    """Per page of a round's blocks."""
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=60)
    count, page_bytes = map(int, run.stdout.split())
    return count * page_bytes / (BLOCKS << 20)


def test_memory_that_was_freed_is_not_faulted_in_again() -> None:
    assert faults() < 2  # those of the first round


def test_what_the_user_has_told_the_allocator_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    assert faults() > ROUNDS / 2
