"""Where a server's CPU time goes: kernel, interpreter, event loop, JSON, by sampling. python -m bench.shares

Writes bench/results/shares.md, which `python -m bench --report --page` puts on the page. Samples by the CPU clock, as
virtual machines have that too; needs `perf` (Debian: linux-perf) and the right to use it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench import environments
from bench.contestants.field import BY_NAME, Job
from bench.load.closed import Closed
from bench.load.one_by_one import OneByOne
from bench.report.page import SHARES
from bench.server import LOAD_CORE, ContestantError, Server, free_port
from bench.workloads import BY_NAME as WORKLOADS
from bench.workloads import Workload

SAMPLES_PER_S: Final = 1999  # prime, so that nothing periodic is met at the same moment each time
SECONDS: Final = 3
SHOWN: Final = (
    ("floor", ("sync-c1", "sync-c64", "sync-c1024")),
    (
        "fastserve",
        (
            *(
                "sync-c1",
                "sync-c64",
                "sync-c1024",
                "coroutine-c64",
                "heads-varied",
                "json-1k",
                "json-100k",
                "json-1m",
            ),
            *("stream-sync", "stream-coroutine", "upload-10m", "download-10m", "tensor-10m"),
        ),
    ),
)
# What a shared object's name contains, and what its time is called. The first that fits; else it is "other".
KINDS: Final = (
    ("kernel", "kernel"),
    ("vdso", "kernel"),
    ("libpython", "interpreter"),
    ("python3", "interpreter"),
    ("loop.cpython", "uvloop"),
    ("parser.cpython", "httptools"),
    ("orjson", "orjson"),
    ("libc.so", "C library"),
)
COLUMNS: Final = ("kernel", "interpreter", "uvloop", "httptools", "orjson", "C library", "other")
_LINE: Final = re.compile(r"^\s*([0-9.]+)%\s+(\S+)", re.MULTILINE)


def read_shares(report: str) -> dict[str, float]:
    """Parts of the whole, by kind, from what `perf report --sort dso` prints."""
    shares = dict.fromkeys(COLUMNS, 0.0)
    for percent, name in _LINE.findall(report):
        shares[next((kind for part, kind in KINDS if part in name), "other")] += float(percent) / 100
    return shares


def sample(server: Server, workload: Workload) -> tuple[dict[str, float], float]:
    """(the shares, CPU microseconds for each request) under `workload`. Raises ContestantError."""
    load = workload.load
    assert isinstance(load, Closed | OneByOne)  # SHOWN names no others
    load.drive(server, workload.question, 1)
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "perf.data"))
        pids = ",".join(map(str, server.processes()))
        recording = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-p", pids, "-o", data]
        recorder = subprocess.Popen(recording, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before_s = server.cpu_s()
        try:
            figures = load.drive(server, workload.question, SECONDS)
        finally:
            recorder.terminate()
            recorder.wait()
        cpu_us = (server.cpu_s() - before_s) / figures["requests"] * 1e6
        reporting = ["perf", "report", "-i", data, "--no-children", "--sort", "dso", "--stdio"]
        report = subprocess.run(reporting, capture_output=True, text=True)
    if report.returncode or "%" not in report.stdout:
        raise ContestantError(f"perf sampled nothing: {report.stderr.strip()[:300]}")
    return read_shares(report.stdout), cpu_us


def row(contestant: str, workload: Workload) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        python = environments.ensure(BY_NAME[contestant])
        job = Job(python, workload.work, workload.slots, free_port(), Path(folder, "run"))
        server = Server(BY_NAME[contestant], job, workload.question, {})
        try:
            server.start()
            shares, cpu_us = sample(server, workload)
        finally:
            server.end()
    cells = " | ".join(f"{shares[column]:.0%}" for column in COLUMNS)
    return f"| {contestant} | {workload.name} | {cpu_us:,.1f} | {cells} |"


def main() -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    lines = [f"| | | CPU us/request | {' | '.join(COLUMNS)} |", f"|---|---|---|{'---|' * len(COLUMNS)}"]
    for contestant, names in SHOWN:
        for name in names:
            try:
                lines.append(row(contestant, WORKLOADS[name]))
                print(lines[-1], flush=True)
            except ContestantError as reason:
                print(f"{contestant}, {name}: {reason}", file=sys.stderr)
    SHARES.parent.mkdir(exist_ok=True)
    SHARES.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
