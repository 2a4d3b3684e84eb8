"""What a server costs, read from /proc: CPU time and memory of all the processes that it consists of.

They are found by a mark in their environment, which children inherit however they are started: several contestants
leave the process group they were started in. Called by bench/server.py. Linux only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = "BENCH_MARK"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)


def processes(mark: str) -> Iterator[int]:
    """The process ids whose environment has MARK=`mark`."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(*_GONE):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def cpu_s(mark: str) -> float:
    """User and system time so far, in seconds: of all threads, and of the children that have ended."""
    return sum(sum(_times(pid)) for pid in processes(mark)) / _TICKS


def _times(pid: int) -> list[int]:
    with contextlib.suppress(*_GONE):
        # proc(5): utime, stime, cutime, cstime are fields 14 to 17; what stands before the last `)` may have spaces.
        return [int(word) for word in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]
    return []


def memory_kb(mark: str) -> int:
    """Proportional set size in KiB: what is shared between the processes counts once."""
    return sum(_status(pid, "smaps_rollup", "Pss:") for pid in processes(mark))


def resident_kb(mark: str) -> int:
    return sum(_status(pid, "status", "VmRSS:") for pid in processes(mark))


def peak_kb(mark: str) -> int:
    """The sum of each process's peak of resident memory since it began, or since `reset_peaks`."""
    return sum(_status(pid, "status", "VmHWM:") for pid in processes(mark))


def reset_peaks(mark: str) -> None:
    for pid in processes(mark):
        with contextlib.suppress(*_GONE):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): 5 resets the peak resident set size


def _status(pid: int, file: str, key: str) -> int:
    with contextlib.suppress(*_GONE):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0  # it has ended
