"""Probes, one after the other, while a predict in pure Python never lets go of the GIL. python -m bench.load.probes

The server has both cores to itself, then shares one core with nobody; the client has the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import Final

from bench.load.alone import MODELS, alone
from bench.load.exchanges import connect, exchange
from bench.load.quantiles import quantile
from bench.questions import Question
from bench.server import LOAD_CORE, SERVER_CORE, ContestantError, Server

PROBE: Final = b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n"
PROBES: Final = 800
APART_S: Final = 0.003  # back to back, the probes would keep the GIL from the predict
BUSY_S: Final = 10  # more than that many probes take, on a machine that has other things to do


def busy(seconds: float) -> Question:
    body = json.dumps({"seconds": seconds}).encode()
    return Question(body, lambda content: json.loads(content)["turns"] > 0)


def probe_while_busy(server: Server, count: int = PROBES, busy_s: float = BUSY_S) -> list[float]:
    """Seconds that each probe took, in order of size. Raises ContestantError if the predict ended before them."""
    predict = threading.Thread(target=server.ask, args=(busy(busy_s),))
    predict.start()
    times = []
    with contextlib.closing(connect(server.port)) as client:
        for _ in range(count):
            time.sleep(APART_S)
            times.append(exchange(client, PROBE).last_s)
    if not predict.is_alive():
        raise ContestantError(f"{count} probes took longer than {busy_s} s")
    predict.join()
    return sorted(times)


def main() -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    for cores in (f"{SERVER_CORE},{LOAD_CORE}", str(SERVER_CORE)):
        with alone(MODELS / "busy", busy(0.01), cores=cores) as server:
            times = probe_while_busy(server)
        p50, p99, worst = (quantile(times, part) * 1000 for part in (0.5, 0.99, 1.0))
        print(
            f"liveness beside a predict that holds the GIL, server on cores {cores}: "
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {worst:.2f} ms of {len(times)}"
        )


if __name__ == "__main__":
    main()
