"""How many instructions the interpreter spends on a request, the same at each run. python -m bench.instructions

callgrind counts what a whole process executes; of two that differ only in how many requests they take, the difference
is those requests'. Sixteen arrive in each turn of the loop, by a transport that only counts what is written: there is
no system call in it. Needs `valgrind`. Takes half a minute a line.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import uvloop

from fastserve.config import Config
from fastserve.http11.connection import Connection
from fastserve.model.directory import read_directory
from fastserve.model.loader import prepare_process
from fastserve.server import Server

MODELS: Final = Path(__file__).parent / "models"
CONNECTIONS: Final = 16
# Both behind what is done once: a head parsed and remembered, caches filled, the interpreter's own specialisation.
FEW: Final = 160
MANY: Final = 4960
ROWS: Final = (
    ("plain predict", "echo", "given", b""),
    ("coroutine", "echo_coroutine", "given", b""),
    ("coroutine, every header section differs", "echo_coroutine", "given", b"X-Number: %032d\r\n"),
    ("coroutine, an id for each", "echo_coroutine", "all", b""),
)


class CountingTransport:
    """Takes what is written and says how often there was something."""

    written = 0

    def write(self, piece: bytes) -> None:
        CountingTransport.written += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False


async def answer(server: Server, count: int, field: bytes) -> None:
    await server._load()
    # As nearly all are where there are many: how many of them are timed would depend on the clock.
    for metrics in server._metrics.methods.values():
        metrics.untimed = sys.maxsize
    connections: list[Any] = []
    for _ in range(CONNECTIONS):
        connections.append(Connection(server._listener))
        connections[-1].connection_made(CountingTransport())
    for first in range(0, count, CONNECTIONS):
        server._loop.call_soon(receive, connections, first, field)
        while CountingTransport.written < first + CONNECTIONS:  # noqa: ASYNC110 - as soon as they are answered
            await asyncio.sleep(0)


def receive(connections: list[Any], first: int, field: bytes) -> None:
    for number, connection in enumerate(connections, first):
        fields = b"Host: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
        fields += field % number if field else b""
        connection.data_received(b'POST /v1/models/model:predict HTTP/1.1\r\n%b\r\n{"v": 12}' % fields)


def play(row: int, count: int) -> None:
    """What callgrind looks at."""
    _, model, request_ids, field = ROWS[row]
    directory = read_directory(MODELS / model)
    prepare_process(directory)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    config = replace(Config(), request_ids=request_ids)
    loop.run_until_complete(answer(Server(loop, directory, config, None, {}), count, field))  # type: ignore[arg-type]
    os._exit(0)


def count_instructions(row: int, count: int) -> int:
    """Of a process that takes `count` requests."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command = [*tool, sys.executable, "-m", "bench.instructions", str(row), str(count)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


def main() -> None:
    if len(sys.argv) == 3:
        play(int(sys.argv[1]), int(sys.argv[2]))
    for row, (name, *_) in enumerate(ROWS):
        each = (count_instructions(row, MANY) - count_instructions(row, FEW)) / (MANY - FEW)
        print(f"{each:9,.0f}  {name}")


if __name__ == "__main__":
    main()
