"""Ten times what the model can do, in an open loop: goodput, latency of what was let in, probes beside it.

Server alone on its core, with a bounded queue and a deadline. python -m bench.load.overload
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from typing import Final

import uvloop

from bench.load.alone import MODELS, alone
from bench.load.exchanges import connect, exchange, is_whole, request_bytes
from bench.load.probes import PROBE, busy
from bench.load.quantiles import quantile
from bench.server import LOAD_CORE, Server

PREDICT_S: Final = 0.01  # of pure Python, which lets go of the GIL only when it must
TIMES: Final = 10
QUEUE: Final = 16
DEADLINE_S: Final = 1.0
SECONDS: Final = 10
CLIENTS: Final = 128  # more than may wait and run: there is always one for the next that is due
PROBE_EACH_S: Final = 0.005

FLAGS: Final = ("--max-queue", str(QUEUE), "--timeout", str(DEADLINE_S))


def capacity(server: Server, seconds: float = 3.0) -> float:
    """Requests a second, of one client that sends them one after another."""
    request = request_bytes(server, busy(PREDICT_S))
    with contextlib.closing(connect(server.port)) as client:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            exchange(client, request)
            count += 1
    return count / seconds


class Load:
    """What came of an open loop. latencies: of requests answered with 200. codes: of all."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.probes: list[float] = []
        self.codes: Counter[bytes] = Counter()

    async def ask(self, client: Client, request: bytes, due: float) -> None:
        answer = await client.exchange(request)
        self.codes[answer[9:12]] += 1
        if answer.startswith(b"HTTP/1.1 200"):
            self.latencies.append(time.perf_counter() - due)

    async def probe(self, client: Client) -> None:
        while True:
            await asyncio.sleep(PROBE_EACH_S)
            began = time.perf_counter()
            await client.exchange(PROBE)
            self.probes.append(time.perf_counter() - began)


class Client:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def exchange(self, request: bytes) -> bytes:
        self.writer.write(request)
        received = b""
        while not is_whole(received):
            piece = await self._reader.read(65536)
            if not piece:
                raise ConnectionError("the server closed the connection before its answer was whole")
            received += piece
        return received


async def overload(port: int, request: bytes, rate: float, seconds: float) -> Load:
    """Send at `rate`, whatever comes back, and probe beside it. Raises ConnectionError if an answer is cut."""
    load = Load()
    clients = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(CLIENTS + 1)]
    probing = asyncio.create_task(load.probe(clients.pop()))
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in clients:
        free.put_nowait(client)

    async def ask(due: float) -> None:
        client = await free.get()
        await load.ask(client, request, due)
        free.put_nowait(client)

    began = time.perf_counter()
    asking = []
    for number in range(round(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*asking)
    probing.cancel()
    for client in clients:
        client.writer.close()
    return load


def main() -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    with alone(MODELS / "busy", busy(PREDICT_S), FLAGS) as server:
        most = capacity(server)
        request = request_bytes(server, busy(PREDICT_S))
        load = uvloop.run(overload(server.port, request, TIMES * most, SECONDS))
    goodput = len(load.latencies) / SECONDS
    print(
        f"{TIMES} times the capacity of {most:.0f} requests/s: {goodput:.0f}/s answered ({goodput / most:.0%}), "
        f"p99 {quantile(sorted(load.latencies), 0.99):.2f} s of a deadline of {DEADLINE_S:g} s; "
        f"liveness p99 {quantile(sorted(load.probes), 0.99) * 1000:.2f} ms of {len(load.probes)}; "
        + ", ".join(f"{count} x {code.decode()}" for code, count in sorted(load.codes.items()))
    )


if __name__ == "__main__":
    main()
