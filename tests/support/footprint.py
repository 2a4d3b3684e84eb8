"""What a process takes from its machine, read from /proc: CPU time, memory, descriptors, threads.

Looks from outside, so that the process need not cooperate. Used by the tests of floods and by bench/load/hostile.py.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
# A server sees a client leave within milliseconds; what lingers on purpose does so for 2 s.
PATIENCE_S: Final = 20.0
# What Python and malloc keep for the next time.
KEPT_KB: Final = 48 * 1024
POLL_S: Final = 0.01


@dataclass(frozen=True)
class Footprint:
    """cpu_s: user and system time so far, in seconds, all threads.

    waited_s: for which its main thread could have run and other processes had the core.
    memory_kb, peak_kb: resident now, and at most since `reset_peak`, in KiB.
    """

    cpu_s: float
    waited_s: float
    memory_kb: int
    peak_kb: int
    descriptors: int
    threads: int


def footprint_of(pid: int) -> Footprint:
    """What the process takes now."""
    process = Path(f"/proc/{pid}")
    times = (process / "stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Footprint(
        cpu_s=(int(times[11]) + int(times[12])) / _TICKS,
        waited_s=int((process / "schedstat").read_text().split()[1]) / 1e9,
        memory_kb=int(status["VmRSS"].split()[0]),
        peak_kb=int(status["VmHWM"].split()[0]),
        descriptors=len(list((process / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


def reset_peak(pid: int) -> None:
    """The most memory that the process has had is what it has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def settled(pid: int, before: Footprint, patience_s: float = PATIENCE_S) -> Footprint:
    """What the process takes once it is as `before`; or when patience ends.

    As before: no more descriptors and threads, and less than KEPT_KB more memory, which is given back a little later.
    """
    deadline = time.monotonic() + patience_s
    while True:
        now = footprint_of(pid)
        is_free = now.memory_kb < before.memory_kb + KEPT_KB
        if is_free and now.descriptors <= before.descriptors and now.threads <= before.threads:
            return now
        if time.monotonic() > deadline:
            return now
        time.sleep(POLL_S)
