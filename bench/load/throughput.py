"""Requests per second, latency and CPU time per request, as ratios to the floor. python -m bench.load.throughput

The contestants take turns (A B C A B C ...), each pinned to one core with wrk on the other, so that the machine's
drift falls on all alike. Needs wrk and two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load.closed import wrk
from bench.load.contestant import Contestant, fastserve_command, floor_command, free_port, running

PREDICT = "/v1/models/model:predict"
CONTENT = b'{"v": 12}'


@dataclass(frozen=True)
class Round:
    """One run of wrk against one contestant. cpu_us: of the server, per request."""

    rps: float
    cpu_us: float
    p50_us: float
    p99_us: float
    errors: int


def load(contestant: Contestant, connections: int, duration_s: int, heads: Sequence[str]) -> Round:
    """Drive `contestant` for `duration_s`. heads: what closed.lua is to make of the header sections."""
    before = contestant.cpu_s()
    with tempfile.NamedTemporaryFile() as content:
        content.write(CONTENT)
        content.flush()
        measured = wrk(contestant.port, PREDICT, connections, duration_s, [content.name, "application/json", *heads])
    requests = measured["requests"]
    return Round(
        rps=requests / measured["seconds"],
        cpu_us=(contestant.cpu_s() - before) / requests * 1e6,
        p50_us=measured["p50_us"],
        p99_us=measured["p99_us"],
        errors=int(measured["lost"] + measured["refused"] + measured["timeouts"]),
    )


def contestants(stack: contextlib.ExitStack) -> list[tuple[Contestant, Sequence[str]]]:
    """(contestant, the heads of its load), the floor first."""

    def start(name: str, model: str, *flags: str) -> Contestant:
        port = free_port()
        return stack.enter_context(running(name, fastserve_command(model, port, *flags), port))

    port = free_port()
    floor = stack.enter_context(running("floor", floor_command(port), port))
    sync = start("sync", "echo")

    def again(name: str) -> Contestant:
        return Contestant(name, sync._process, sync.port)

    return [
        (floor, ()),
        (sync, ()),
        (start("coroutine", "echo_coroutine"), ()),
        (start("pre + predict + post", "echo_steps"), ()),
        (start("sync, 4 slots", "echo", "--concurrency", "4"), ()),
        (again("sync, 20 fields"), ("many",)),
        (again("sync, every head differs"), ("varied",)),
        (again("the same, 20 fields"), ("varied", "many")),
    ]


def measure(connections: int, rounds: int, duration_s: int) -> dict[str, list[Round]]:
    """`rounds` rounds of each contestant at `connections`, interleaved, after one that is thrown away."""
    results: dict[str, list[Round]] = {}
    with contextlib.ExitStack() as stack:
        field = contestants(stack)
        for turn in range(-1, rounds):
            for contestant, heads in field:
                measured = load(contestant, connections, 1 if turn < 0 else duration_s, heads)
                if turn >= 0:
                    results.setdefault(contestant.name, []).append(measured)
    return results


def medians(rounds: list[Round]) -> Round:
    rps, cpu_us, p50_us, p99_us = (
        statistics.median(getattr(r, name) for r in rounds) for name in ("rps", "cpu_us", "p50_us", "p99_us")
    )
    return Round(rps, cpu_us, p50_us, p99_us, errors=sum(r.errors for r in rounds))


def show(connections: int, results: dict[str, list[Round]]) -> None:
    """A table of medians, with the median of the ratios of each round to the floor's in the same round."""
    print(f"\nc={connections}, medians of {len(results['floor'])} rounds; xN: ratio to the floor in the same round")
    print(f"{'':26}{'req/s':>17}{'CPU us/req':>17}{'p50 us':>16}{'p99 us':>16}  errors")
    floors = results["floor"]
    for name, rounds in results.items():
        median = medians(rounds)
        cells = []
        for field, width in (("rps", 9), ("cpu_us", 9), ("p50_us", 8), ("p99_us", 8)):
            ratio = statistics.median(
                getattr(r, field) / getattr(f, field) for r, f in zip(rounds, floors, strict=True)
            )
            cells.append(f"{getattr(median, field):{width},.{0 if field != 'cpu_us' else 1}f} (x{ratio:.2f})")
        print(f"{name:26}{cells[0]:>17}{cells[1]:>17}{cells[2]:>16}{cells[3]:>16}  {median.errors}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each round; wrk takes whole ones")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, {' '.join(sys.argv[1:]) or 'defaults'}")
    for connections in options.connections:
        show(connections, measure(connections, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
