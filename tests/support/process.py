"""The real `fastserve` command as a child process, for tests about sockets, signals and exit statuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LISTENING = re.compile(r"listening on (?:https?://127\.0\.0\.1:(\d+)|unix:/)")
PATIENCE_S = 30.0


class Server:
    """A running `fastserve DIR --port 0`. log: what it has written to stderr so far.

    port: the one it took; 0 if it listens on a Unix socket.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.log = ""
        self.port = 0

    def wait_for_log(self, pattern: str, patience_s: float = PATIENCE_S) -> re.Match[str]:
        """Read stderr until `pattern` is there."""
        deadline = time.monotonic() + patience_s
        assert self.process.stderr is not None
        while (match := re.search(pattern, self.log)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in:\n{self.log}"
            if select.select([self.process.stderr], [], [], left)[0]:
                read = os.read(self.process.stderr.fileno(), 65536)
                assert read, f"the server ended without {pattern!r}:\n{self.log}"
                self.log += read.decode(errors="replace")
        return match

    def read_log(self) -> str:
        """All of the log that is there now, or all of it if the process has ended."""
        assert self.process.stderr is not None
        while select.select([self.process.stderr], [], [], 0)[0]:
            read = os.read(self.process.stderr.fileno(), 65536)
            if not read:
                break
            self.log += read.decode(errors="replace")
        return self.log

    def connect(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def request(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request on a connection of its own: (status, content)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()

    def predict(self, payload: Any) -> Any:
        """The model's answer to `payload`; it must be a 200."""
        status, content = self.request("POST", "/v1/models/model:predict", json.dumps(payload).encode())
        assert status == 200, content
        return json.loads(content)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait. Returns the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process; the rest of stderr is in `log` then."""
        status = self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        self.log += self.process.stderr.read().decode(errors="replace")
        return status


def write_model(directory: Path, source: str, config: str = "") -> Path:
    """Make a model directory: `source` is model/model.py."""
    (directory / "model").mkdir(parents=True, exist_ok=True)
    (directory / "model" / "model.py").write_text(source)
    (directory / "config.yaml").write_text(config)
    return directory


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would configure the server."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("FASTSERVE_", "OTEL_"))
        and k not in ("PORT", "DISABLE_JSON_LOGGING", "KUBERNETES_SERVICE_HOST")
    }
    return {**kept, **(extra or {})}


def command(directory: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "fastserve", str(directory), *flags]


@contextlib.contextmanager
def serving(
    directory: Path, *flags: str, env: Mapping[str, str] | None = None, wait_ready: bool = True
) -> Iterator[Server]:
    """Start the server on a free port; end it afterwards, whatever happened."""
    process = subprocess.Popen(
        command(directory, "--port", "0", *flags),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(env),
    )
    with ending(process) as server:
        if wait_ready:
            server.wait_for_log(r"ready; the model loaded", 300.0)
        yield server


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[Server]:
    """Wait until the started server listens; end it afterwards, whatever happened."""
    server = Server(process)
    try:
        server.port = int(server.wait_for_log(LISTENING.pattern).group(1) or 0)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stderr is not None
        process.stderr.close()


@contextlib.contextmanager
def serving_as_pid_1(directory: Path, *flags: str) -> Iterator[tuple[Server, int]]:
    """As `serving`, in a PID namespace of its own: (server, its PID outside of it). Needs the right to make one."""
    process = subprocess.Popen(
        ["unshare", "-p", "-f", "--kill-child", *command(directory, "--port", "0", *flags)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        server.wait_for_log("ready; the model loaded")
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield server, int(child)


def may_make_pid_namespaces() -> bool:
    """Root may, but for some containers. Raises FileNotFoundError without util-linux."""
    return not subprocess.run(["unshare", "-p", "-f", "true"], check=False, capture_output=True).returncode


def run_to_end(directory: Path, *flags: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run the command until it ends by itself: (exit status, stderr)."""
    done = subprocess.run(
        command(directory, *flags), capture_output=True, text=True, timeout=PATIENCE_S, env=environment(env)
    )
    return done.returncode, done.stderr
