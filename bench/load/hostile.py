"""How a client that behaves fares beside each attack, and what the attack costs. python -m bench.load.hostile

One server for all attacks, pinned to one core; attacker and client share the other, the client first (with real-time
priority, if root runs this).
Each attack is repeated until its time is up; the client's times alone are taken just before it. Needs two cores, and
nobody else on them: `waited` says for how long the server was ready to run and others had its core.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

from bench import questions
from bench.load.alone import alone
from bench.load.watch import put_first
from bench.server import LOAD_CORE
from tests.support.crowd import crowd_at
from tests.support.floods import FLOODS
from tests.support.footprint import Footprint, footprint_of, reset_peak, settled
from tests.support.neighbour import Neighbour, Report, neighbour_of
from tests.support.starvation import FLAGS, MODEL, STARVATION, Attack

COLUMNS = (
    "p50 alone, attacked us  p99 alone, attacked us   ratio   worst ms  new ms  CPU s  waited  of s"
    "  peak MB  after MB  fds  threads"
)


def measure(
    attack: Attack, port: int, pid: int, neighbour: Neighbour, seconds: float
) -> tuple[Report, Report, Footprint, Footprint, float]:
    """The client's reports alone and under attack, what the server takes before and after, how long it lasted."""
    neighbour.report()
    time.sleep(seconds)
    alone = neighbour.report()
    before = footprint_of(pid)
    reset_peak(pid)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with crowd_at(port) as crowd:
            attack(crowd)
            settled(pid, before, 3.0)
    lasted = time.monotonic() - began
    attacked = neighbour.report()
    return alone, attacked, before, settled(pid, before), lasted


def show(name: str, alone: Report, attacked: Report, before: Footprint, after: Footprint, lasted: float) -> None:
    """One row, and below it what was answered wrongly."""
    print(
        f"{name:28}{alone.p50_s * 1e6:9.0f}{attacked.p50_s * 1e6:14.0f}{alone.p99_s * 1e6:12.0f}"
        f"{attacked.p99_s * 1e6:13.0f}{attacked.p99_s / alone.p99_s:8.2f}{attacked.worst_s * 1e3:11.1f}"
        f"{attacked.newcomer_s * 1e3:8.1f}"
        f"{after.cpu_s - before.cpu_s:7.1f}{after.waited_s - before.waited_s:8.1f}{lasted:6.1f}"
        f"{after.peak_kb / 1024:9.0f}{after.memory_kb / 1024:10.0f}"
        f"{after.descriptors - before.descriptors:+5d}{after.threads - before.threads:+9d}",
        flush=True,
    )
    for mistake in attacked.mistakes:
        print(f"    WRONG: {mistake}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", help="names; all without any")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each attack, at least")
    options = parser.parse_args()
    attacks = {**STARVATION, **FLOODS}
    os.sched_setaffinity(0, {LOAD_CORE})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    print(f"{'':28}{COLUMNS}")
    with alone(MODEL, questions.trivial(), FLAGS) as server, neighbour_of(server.port) as neighbour:
        put_first(neighbour.pid)
        for name in options.attacks or attacks:
            show(name, *measure(attacks[name], server.port, server.pid, neighbour, options.seconds))


if __name__ == "__main__":
    main()
