"""What the figures were measured on: the machine and the tools, for the report."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.contestants.field import ROOT
from bench.server import LOAD_CORE, SERVER_CORE


def describe() -> dict[str, str]:
    """Title and text of each fact."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _line(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": f"{os.cpu_count()}; servers on core {SERVER_CORE}, load on core {LOAD_CORE}",
        "memory": _line(Path("/proc/meminfo"), "MemTotal"),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "wrk": _first_line(["wrk", "--version"]),
        "fastserve": _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
    }


def _line(file: Path, key: str) -> str:
    lines = [line.partition(":")[2].strip() for line in file.read_text().splitlines() if line.startswith(key)]
    return lines[0] if lines else ""


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "not there"
    return (done.stdout or done.stderr).partition("\n")[0].strip()
