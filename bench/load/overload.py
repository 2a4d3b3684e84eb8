"""Ten times what a model can do, in an open loop: what is answered, how late, and probes beside it.

Server alone on its core, full in two ways: its queue is bounded, or its deadline passes before the queue is done.
python -m bench.load.overload; ends with status 1 if a bar is not met. Needs two cores, and nobody else on them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from bench.load.alone import MODELS, alone
from bench.load.bars import Bar, tell
from bench.load.closed import Closed
from bench.load.exchanges import is_whole, request_bytes
from bench.load.open_loop import without_collections
from bench.load.probes import busy
from bench.load.quantiles import quantile
from bench.load.watch import watching
from bench.questions import Question
from bench.server import LOAD_CORE
from tests.support.footprint import footprint_of

PREDICT_S: Final = 0.01
TIMES: Final = 10
QUEUE: Final = 16
DEADLINE_S: Final = 1.0
SECONDS: Final = 10.0
CAPACITY_S: Final = 3
WAITING: Final = 2  # clients of the closed loop that finds the capacity: one is served, one waits
FLAGS: Final = ("--timeout", f"{DEADLINE_S:g}")

LEAST_GOODPUT: Final = 0.9  # of the capacity
MOST_LIVENESS_S: Final = 0.005
# The server counts from the arrival of a request; its way there and back, and the client's own turn, come on top.
ROOM_S: Final = 0.02


@dataclass(frozen=True)
class Case:
    """model: a folder of bench/models. clients: more than may wait and run; there is always one for what is due."""

    title: str
    model: str
    question: Question
    flags: tuple[str, ...]
    clients: int


@dataclass(frozen=True)
class Answered:
    """One request: its status, how long it took from when it was due, and when it was answered; in seconds."""

    status: int
    latency_s: float
    at_s: float


def sleeping(seconds: float) -> Question:
    body = json.dumps({"seconds": seconds}).encode()
    return Question(body, lambda content: json.loads(content) == {"slept": seconds})


def cases() -> Iterator[Case]:
    """Each kind of predict with each way of being full."""
    kinds = (
        ("plain predict that keeps the GIL", "busy", busy(PREDICT_S)),
        ("plain predict without the GIL", "sleeping", sleeping(PREDICT_S)),
        ("coroutine", "sleeping_coroutine", sleeping(PREDICT_S)),
    )
    due = round(TIMES * DEADLINE_S / PREDICT_S)  # while one request may wait
    for title, model, question in kinds:
        yield Case(f"{title}, queue of {QUEUE}", model, question, (*FLAGS, "--max-queue", str(QUEUE)), 8 * QUEUE)
        yield Case(f"{title}, deadline alone", model, question, FLAGS, due + due // 2)


class Client:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def exchange(self, request: bytes) -> bytes:
        """Raises ConnectionError if the answer is cut."""
        self.writer.write(request)
        received = b""
        while not is_whole(received):
            piece = await self._reader.read(65536)
            if not piece:
                raise ConnectionError("the server closed the connection before its answer was whole")
            received += piece
        return received


async def overload(
    port: int, request: bytes, rate: float, seconds: float, clients: int, on_done: Callable[[], None] = lambda: None
) -> list[Answered]:
    """Send at `rate`, whatever comes back. Raises ConnectionError if an answer is cut.

    on_done: called when all is answered; only then the clients leave, all at once.
    """
    connected = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(clients)]
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in connected:
        free.put_nowait(client)

    async def ask(due: float) -> Answered:
        client = await free.get()
        answer = await client.exchange(request)
        now = time.perf_counter()
        free.put_nowait(client)
        return Answered(int(answer[9:12]), now - due, now - began)

    began = time.perf_counter()
    asking: list[asyncio.Task[Answered]] = []
    for number in range(round(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.append(asyncio.create_task(ask(min(due, time.perf_counter()))))  # uvloop may wake it 1 ms too soon
    answered = [await one for one in asking]
    on_done()
    for client in connected:
        client.writer.close()
    return answered


def bars_of(most: float, answered: Sequence[Answered], probes: Sequence[float], seconds: float) -> list[Bar]:
    """most: the capacity, in requests a second. answered: at TIMES as many for so many seconds; probes: beside them.

    What is answered after those seconds is none of the goodput: nothing was sent any more.
    """
    right = [one for one in answered if one.status == 200]
    goodput = sum(one.at_s <= seconds for one in right) / seconds
    codes = ", ".join(f"{count} x {code}" for code, count in sorted(Counter(one.status for one in answered).items()))
    p99_s = quantile(sorted(one.latency_s for one in right), 0.99) if right else float("inf")
    alive_s = quantile(sorted(probes), 0.99)
    return [
        Bar(f"{goodput:.1f} of {most:.1f} requests/s answered: {goodput / most:.0%} of {LEAST_GOODPUT:.0%} ({codes})",
            goodput >= LEAST_GOODPUT * most),
        Bar(f"p99 of these {p99_s:.3f} s of {DEADLINE_S:g} s", p99_s <= DEADLINE_S + ROOM_S),
        Bar(f"liveness p99 {alive_s * 1000:.2f} ms of {MOST_LIVENESS_S * 1000:g}, worst {max(probes) * 1000:.2f} "
            f"of {len(probes)}", alive_s < MOST_LIVENESS_S),
    ]  # fmt: skip


def run(case: Case, seconds: float) -> list[Bar]:
    """Find the capacity, then ask for TIMES as much. Raises ContestantError for a wrong answer."""
    with alone(MODELS / case.model, case.question, case.flags) as server:
        most = Closed(WAITING).drive(server, case.question, CAPACITY_S)["rps"]
        request = request_bytes(server, case.question)
        waited_s = footprint_of(server.pid).waited_s
        with watching(server.port) as watch, without_collections():
            loading = overload(server.port, request, TIMES * most, seconds, case.clients, watch.finish)
            answered = uvloop.run(loading)
        waited_s = footprint_of(server.pid).waited_s - waited_s
        print(
            f"  others, its own workers included, had the core for {waited_s:.1f} s while its loop had work",
            flush=True,
        )
        server.check(case.question)
    return bars_of(most, answered, watch.times, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only the cases whose title has one of these; all without any")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of overload in each case")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {LOAD_CORE})
    status = 0
    for case in cases():
        if not options.words or any(word in case.title for word in options.words):
            print(f"{case.title}, {TIMES} times its capacity for {options.seconds:g} s:", flush=True)
            status |= tell(run(case, options.seconds))
    return status


if __name__ == "__main__":
    sys.exit(main())
