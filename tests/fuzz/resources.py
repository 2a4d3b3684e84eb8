"""What this process holds: memory, file descriptors, threads, tasks and objects; and whether that has grown.

Reads /proc and the interpreter; decides nothing but growth. Called by `campaign.py`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Final, NamedTuple

PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024

# After the warm-up, by when every cache has filled: fragmentation moves memory by this, a leak of 100 bytes a stream
# would be 50 MiB in a long run, and one object each half a million.
MAX_GROWTH_KIB: Final = 16 * 1024
MAX_GROWTH_OBJECTS: Final = 2_000


class Resources(NamedTuple):
    """memory_kib: resident. objects: those the collector knows."""

    memory_kib: int
    descriptors: int
    threads: int
    tasks: int
    objects: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:,}" for name, value in self._asdict().items())

    def growth_over(self, before: Resources) -> list[str]:
        """What there is too much more of than before, as sentences; nothing if all is well."""
        limits = Resources(MAX_GROWTH_KIB, 0, 0, 0, MAX_GROWTH_OBJECTS)
        return [
            f"{name} grew from {was:,} to {now:,}"
            for name, was, now, most in zip(self._fields, before, self, limits, strict=True)
            if now - was > most
        ]


def measure(loop: asyncio.AbstractEventLoop) -> Resources:
    """What is held now, garbage collected first. loop: whose tasks are counted."""
    gc.collect()
    return Resources(
        memory_kib=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB,
        descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - the directory's own descriptor counts alike
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks(loop)),
        objects=len(gc.get_objects()),
    )
