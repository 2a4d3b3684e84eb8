"""The figures that are not throughput: start, memory, probes, streams, uploads, and a long run that is checked.

python -m bench.load.figures [NAME ...]: start, probes, stream, idle, upload, long. `long` needs wrk and two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.load.contestant import LOAD_CORE, SERVER_CORE, Contestant, fastserve_command, free_port, running

PREDICT = "/v1/models/model:predict"
IMPORTS = "import asyncio, uvloop, httptools, orjson, yaml"


def serving(model: str, *flags: str, cores: str = str(SERVER_CORE)) -> contextlib.AbstractContextManager[Contestant]:
    port = free_port()
    return running(model, fastserve_command(model, port, *flags), port, cores=cores)


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def start() -> None:
    """Time from starting the process to the first answered predict, beside that of the imports alone; memory then."""
    command = [sys.executable, "-c", IMPORTS]
    firsts, imports, memory = [], [], 0
    for _ in range(9):
        began = time.perf_counter()
        subprocess.run(command, check=True)
        imports.append(time.perf_counter() - began)
        port = free_port()
        began = time.perf_counter()
        with running("start", fastserve_command("echo", port), port, path=PREDICT) as server:
            firsts.append(time.perf_counter() - began)
            predict(port, 1)
            memory = server.memory_kb()
    first, imported = statistics.median(firsts), statistics.median(imports)
    print(f"first answer after {first:.3f} s; the imports alone {imported:.3f} s (x{first / imported:.2f})")
    print(f"resident memory of a trivial model: {memory / 1024:.1f} MiB")


def predict(port: int, payload: object) -> object:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", PREDICT, json.dumps(payload))
        return json.load(connection.getresponse())


def probes() -> None:
    """GET /livez, one after the other, while a predict in pure Python never lets go of the GIL."""
    for cores in (f"{SERVER_CORE},{LOAD_CORE}", str(SERVER_CORE)):
        times = probe_while_busy(cores)
        quantiles = f"p50 {quantile(times, 0.5):.2f} ms, p99 {quantile(times, 0.99):.2f} ms, max {max(times):.2f} ms"
        print(f"liveness under a predict that holds the GIL, server on cores {cores}: {quantiles}, n={len(times)}")


def probe_while_busy(cores: str) -> list[float]:
    """Milliseconds that each probe took."""
    with serving("busy", cores=cores) as server:
        busy = threading.Thread(target=predict, args=(server.port, {"seconds": 5}))
        busy.start()
        times = []
        with socket.create_connection(("127.0.0.1", server.port)) as probe:
            for _ in range(800):
                time.sleep(0.003)  # back to back, the probes would keep the GIL from the predict
                began = time.perf_counter()
                probe.sendall(b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n")
                probe.recv(65536)
                times.append((time.perf_counter() - began) * 1000)
                if not busy.is_alive():
                    break
        busy.join()
    return times


def stream(chunks: int = 10_000) -> None:
    """`chunks` chunks of 8 bytes from a sync generator: rate to the last byte, and time to the first chunk."""
    firsts, rates = [], []
    with serving("echo_stream") as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(30):
            content = b'{"chunks": %d}' % chunks
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(content)}\r\n\r\n"
            began = time.perf_counter()
            client.sendall(head.encode() + content)
            received = client.recv(1 << 20)
            while b"8 bytes." not in received:
                received += client.recv(1 << 20)
            firsts.append((time.perf_counter() - began) * 1000)
            while not received.endswith(b"0\r\n\r\n"):
                received += client.recv(1 << 20)
            rates.append(chunks / (time.perf_counter() - began))
            assert received.count(b"8\r\n8 bytes.\r\n") == chunks
    print(
        f"stream of {chunks:,} chunks: {statistics.median(rates):,.0f} chunks/s; first chunk after "
        f"{statistics.median(firsts):.2f} ms (p95 {quantile(firsts, 0.95):.2f})"
    )


def idle(count: int = 8000) -> None:
    """Memory that an idle keep-alive connection costs, after one request on each."""
    wanted = count + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, wanted)), hard))
    with serving("echo") as server:
        before = server.memory_kb()
        peers = []
        for _ in range(count):
            peer = socket.create_connection(("127.0.0.1", server.port))
            peer.sendall(b"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Length: 1\r\n\r\n1")
            assert peer.recv(1000).endswith(b'{"echo":1}')
            peers.append(peer)
        after = server.memory_kb()
        for peer in peers:
            peer.close()
    print(f"{count:,} idle connections: {(after - before) / count:.2f} KiB each")


def long(requests: int = 1_000_000) -> None:
    """`requests` requests by wrk at c=64, beside a client whose random payloads are checked for their own answer."""
    with serving("echo") as server:
        load(server.port, 2)
        before = server.memory_kb()
        stop = threading.Event()
        checked: list[int] = []
        checkers = [
            threading.Thread(target=check_answers, args=(server.port, seed, stop, checked)) for seed in range(2)
        ]
        for checker in checkers:
            checker.start()
        done, errors = 0, 0
        while done < requests:
            measured = load(server.port, 10)
            done += measured["requests"]
            errors += measured["errors"]
        stop.set()
        for checker in checkers:
            checker.join()
        after = server.memory_kb()
    print(
        f"{done:,} requests: {errors} errors; {sum(checked):,} random payloads checked, all right; resident memory "
        f"{before / 1024:.1f} -> {after / 1024:.1f} MiB"
    )
    assert len(checked) == len(checkers), "a checker ended early: a wrong or lost answer"


def load(port: int, duration_s: float) -> dict[str, int]:
    script = Path(__file__).with_name("random.lua")
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", "-c64", f"-d{duration_s}s", "-s", str(script)]
    printed = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{PREDICT}"], check=True, capture_output=True, text=True
    ).stdout
    measured: dict[str, int] = json.loads(printed.strip().splitlines()[-1])
    assert not measured["wrong"], printed
    return measured


def check_answers(port: int, seed: int, stop: threading.Event, checked: list[int]) -> None:
    chance = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    count = 0
    while not stop.is_set():
        payload = {"n": chance.random(), "text": "x" * chance.choice([0, 10, 1000, 100_000]), "list": [count, seed]}
        connection.request("POST", PREDICT, json.dumps(payload))
        assert json.load(connection.getresponse()) == {"echo": payload}
        count += 1
    connection.close()
    checked.append(count)


def upload() -> None:
    """Content of 1, 10 and 100 MB received: rate beside a blocking recv_into sink, and peak memory."""
    for megabytes in (1, 10, 100):
        size = megabytes * 1_000_000
        rates = [put(free_port(), size, use_sink=True)[0] for _ in range(5)]
        sink = statistics.median(rates)
        with serving("echo", "--max-request-size", "200M") as server:
            idle_kb = server.memory_kb()
            ours = statistics.median(put(server.port, size, use_sink=False)[0] for _ in range(5))
            peak = (server.memory_kb("VmHWM") - idle_kb) * 1024 / size
        print(
            f"{megabytes:3} MB up: {ours / 1e9:.2f} GB/s, a blocking sink {sink / 1e9:.2f} (x{ours / sink:.2f}); "
            f"peak memory {peak:.2f}x the content"
        )


def put(port: int, size: int, *, use_sink: bool) -> tuple[float, bytes]:
    """(bytes/s, the answer) of one upload of `size` bytes of JSON text."""
    content = b" " * (size - 1) + b"1"  # JSON that takes no memory once decoded: what is measured is the receiving
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    sink = threading.Thread(target=receive, args=(port, len(head) + size)) if use_sink else None
    if sink is not None:
        sink.start()
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            client = socket.create_connection(("127.0.0.1", port))
            break
    with client:
        began = time.perf_counter()
        client.sendall(head)
        client.sendall(content)
        answer = client.recv(1000)
        took = time.perf_counter() - began
    if sink is not None:
        sink.join()
    return size / took, answer


def receive(port: int, size: int) -> None:
    """The simplest receiver there is: one buffer, recv_into until it is full."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        peer, _ = listening.accept()
        with peer:
            view = memoryview(bytearray(size))
            while view:
                view = view[peer.recv_into(view) :]
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


FIGURES: dict[str, Callable[[], None]] = {
    "start": start,
    "probes": probes,
    "stream": stream,
    "idle": idle,
    "upload": upload,
    "long": long,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], metavar="NAME", help=f"of {', '.join(FIGURES)}")
    names = parser.parse_args().names
    os.sched_setaffinity(0, {LOAD_CORE})  # the clients here; a server goes to its own core
    for name in names or FIGURES:
        FIGURES[name]()


if __name__ == "__main__":
    main()
