"""One server under measurement: started on its own core, watched through /proc, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MODELS: Final = Path(__file__).parent.parent / "models"
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
READY_S: Final = 60.0

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Contestant:
    """A running server. command: how it was started; url: where it answers."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.port = port
        self._process = process

    def cpu_s(self) -> float:
        """User and system time of the process so far, in seconds, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_kb(self, key: str = "VmRSS") -> int:
        """Resident memory now, or its peak (`VmHWM`), in KiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key + ":"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    name: str, command: list[str], port: int, path: str = "/readyz", cores: str = str(SERVER_CORE)
) -> Iterator[Contestant]:
    """Start `command` on `cores`, wait until it answers 200 at `path`, end it afterwards."""
    process = subprocess.Popen(
        ["taskset", "-c", cores, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_ready(process, port, path)
        yield Contestant(name, process, port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Until `path` answers 200. Raises RuntimeError if the server ends, or is not ready within READY_S."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            if probe.recv(12) == b"HTTP/1.1 200":
                return
        time.sleep(0.01)
    raise RuntimeError(f"the server was not ready after {READY_S} s")


def floor_command(port: int) -> list[str]:
    folder = MODELS.parent / "contestants"
    told = ["env", f"BENCH_PORT={port}", f"PYTHONPATH={folder / 'shared'}"]
    return [*told, sys.executable, str(folder / "floor" / "serve.py")]


def fastserve_command(model: str, port: int, *flags: str) -> list[str]:
    return [sys.executable, "-m", "fastserve", str(MODELS / model), "--port", str(port), *flags]
