"""Liveness, asked at a steady pace from a process of its own, which no load beside it keeps from its clock.

Leaves what the server suffers meanwhile to others. Used by `overload.py`; run as `python -m bench.load.watch PORT`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from bench.load.exchanges import connect, exchange
from bench.load.probes import PROBE

EACH_S: Final = 0.005


class Watch:
    """The watching process, seen from the one that started it. times: seconds that each probe took, once finished."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.times: list[float] = []
        self._process = process

    def finish(self) -> None:
        """Raises ValueError if a probe was not answered."""
        self.times = json.loads(self._process.communicate("\n")[0])


@contextlib.contextmanager
def watching(port: int) -> Iterator[Watch]:
    """Probe the server at `port` until it is finished."""
    command = [sys.executable, "-m", "bench.load.watch", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            put_first(process.pid)
            yield Watch(process)
        finally:
            process.kill()


def put_first(pid: int) -> None:
    """Let that client have the core whenever it wants it, or its times would be those of the load beside it."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:  # for root alone
        os.nice(5)


def probe_steadily(client: socket.socket, each_s: float = EACH_S) -> list[float]:
    """A probe each `each_s` until a line comes on stdin. Returns how long each took, from when it was due.

    So one that is late because the one before took long is charged for that too.
    """
    times: list[float] = []
    due = time.perf_counter()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
        exchange(client, PROBE)
        times.append(time.perf_counter() - due)
        due += each_s
    return times


def main() -> None:
    with connect(int(sys.argv[1])) as client:
        exchange(client, PROBE)
        print(flush=True)
        print(json.dumps(probe_steadily(client)))


if __name__ == "__main__":
    main()
