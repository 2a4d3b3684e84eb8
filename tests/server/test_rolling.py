"""Two instances behind nginx or HAProxy, replaced one after the other under wrk: not one request may fail.

The front ends are Debian's, started by tests/differential/front_ends.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.front_ends import front_end
from tests.support.process import PATIENCE_S, Server, serving, write_model

# A little work, or wrk would be a storm of connections and nothing else; says which instance it is.
MODEL = """
import os, time
class Model:
    def predict(self, payload):
        time.sleep(0.001)
        return os.getpid()
"""
# HAProxy asks for readiness, and must have seen the 503 before the server drains: 0.2 s at the most. nginx asks for
# nothing: it goes on to the other instance where it is refused, by the kernel or with the 503 of one that still
# loads. What else it would make good in this way must not happen, and is looked for in its log.
DELAY_S = 1.0
MADE_GOOD = re.compile(r".*\[error\](?!.*Connection refused).*")
SERVICES = {
    "haproxy": """
        listen rolling{socket}
            bind fd@{socket}
            option httpchk GET /readyz
            http-check expect status 200
            http-reuse always
            retries 0
            default-server check inter 100ms fall 1 rise 1
            server one 127.0.0.1:{upstream}
            server two 127.0.0.1:OTHER
    """,
    "nginx": """
        upstream rolling{socket} {{
            server 127.0.0.1:{upstream} max_fails=0;
            server 127.0.0.1:OTHER max_fails=0;
            keepalive 16;
        }}
        server {{
            listen 127.0.0.1:{listen};
            location / {{
                proxy_pass http://rolling{socket};
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_next_upstream error timeout http_503 non_idempotent;
            }}
        }}
    """,
}
SCRIPT = """
wrk.method, wrk.body = "POST", "1"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "lost": %d, "refused": %d, "late": %d}\\n',
    summary.requests, e.connect + e.read + e.write, e.status, e.timeout))
end
"""
LONGEST_S = 120  # wrk is told to end when all have been replaced


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that nobody else is given while it is free between two instances: bound, and not listened on."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def under_wrk(port: int, script: Path) -> Iterator[dict[str, int]]:
    """Load all the while. What it returns is filled in at the end: requests, and those that failed in some way."""
    told: dict[str, int] = {}
    script.write_text(SCRIPT)
    wrk = subprocess.Popen(
        ["wrk", "-t1", "-c8", f"-d{LONGEST_S}s", "-s", str(script), f"http://127.0.0.1:{port}/predict"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield told
        wrk.send_signal(signal.SIGINT)
        told.update(json.loads(wrk.communicate(timeout=PATIENCE_S)[0].splitlines()[-1]))
    finally:
        wrk.kill()
        wrk.communicate()


def wait_until_answers(port: int, instance: Server) -> None:
    """Ask through the front end until it is `instance` that answers."""
    front = Server(instance.process)
    front.port = port
    deadline = time.monotonic() + PATIENCE_S
    while front.predict(None) != instance.process.pid:
        assert time.monotonic() < deadline, "the new instance is sent nothing"


@pytest.mark.parametrize("name", SERVICES)
def test_instances_are_replaced_under_load_and_no_request_fails(name: str, tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m", MODEL)
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in range(2)]

        def start(port: int) -> Server:
            return stack.enter_context(serving(directory, "--port", str(port), "--drain-delay", str(DELAY_S)))

        running = [start(port) for port in ports]
        service = SERVICES[name].replace("OTHER", str(ports[1]))
        (front,) = stack.enter_context(front_end(name, tmp_path, [(service, ports[0])]))
        for instance in running:
            wait_until_answers(front, instance)
        with under_wrk(front, tmp_path / "post.lua") as told:
            for at, port in enumerate(ports):
                assert running[at].stop() == 0
                running[at] = start(port)
                wait_until_answers(front, running[at])
        assert told.pop("requests") > 0
        assert told == {"lost": 0, "refused": 0, "late": 0}
        assert MADE_GOOD.findall((tmp_path / f"{name}.log").read_text()) == []
        for instance in running:
            assert instance.stop(signal.SIGINT) == 0
