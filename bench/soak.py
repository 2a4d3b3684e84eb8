"""A soak: mixed traffic for minutes, every answer checked; nothing may be left of it. python -m bench.soak

Ends with status 1 if an answer was wrong, if memory, threads or file descriptors are not what they were after a first
stretch of the same traffic, or if the server's log has a warning. With --debug asyncio and Python look more closely
(PYTHONASYNCIODEBUG=1, all warnings shown): slower, so that time is for the log's sake. Needs two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

from bench.load.alone import MODELS, alone
from bench.load.traffic import Traffic
from bench.questions import Question
from bench.server import LOAD_CORE
from tests.support.footprint import Footprint, footprint_of

MINUTES: Final = 10.0
DEBUG_MINUTES: Final = 5.0
# Of the same traffic before anything is compared: what is made once and kept has been made by then.
FIRST_S: Final = 60.0
# What lingers on purpose does so for 2 s; what malloc gives back it gives back in a moment.
REST_S: Final = 5.0
# Room for what is kept by chance: freed blocks among others in use. A leak of 100 bytes a request is more.
FLAT_KB: Final = 16 * 1024
# The same where the first stretch was shorter, so that the most that uploads take at a time came only later.
SHORT_FLAT_KB: Final = 80 * 1024
TOLD_EVERY_S: Final = 60.0
DEBUG: Final = {"PYTHONASYNCIODEBUG": "1", "PYTHONWARNINGS": "default"}
# What the traffic itself asks for, and is to be told in the log.
EXPECTED: Final = "ValueError: failing as asked"
# asyncio's own warning in debug mode, by the clock on the wall: also of a callback that had to wait for its core.
SLOW: Final = re.compile(r"Executing <.*> took ([0-9.]+) seconds")
_WORRYING: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})


def complaints_of(log: str) -> list[str]:
    """The lines that are neither information nor asked for: warnings, errors, and whatever is no line of the log."""
    found = []
    for text in log.splitlines():
        try:
            line = json.loads(text)
            is_worrying = line["levelname"] in _WORRYING and EXPECTED not in line.get("exc_info", "")
        except (ValueError, KeyError, TypeError):  # printed past the log: by Python itself, say
            is_worrying = bool(text.strip())
        if is_worrying:
            found.append(text)
    return found


def unexplained(complaints: list[str], waited_s: float) -> list[str]:
    """`complaints` without those of slow callbacks, if the loop's thread waited for its core as long as they took.

    waited_s: for which others had the core, its own workers included.
    """
    slow_s = sum(float(found[1]) for line in complaints if (found := SLOW.search(line)))
    return [line for line in complaints if slow_s > waited_s or not SLOW.search(line)]


def growth_of(before: Footprint, after: Footprint, room_kb: int = FLAT_KB) -> list[str]:
    """What there is more of than may be; of memory by `room_kb`."""
    grown = []
    if after.memory_kb > before.memory_kb + room_kb:
        grown.append(f"memory: {before.memory_kb / 1024:.1f} -> {after.memory_kb / 1024:.1f} MiB")
    if after.threads > before.threads:
        grown.append(f"threads: {before.threads} -> {after.threads}")
    if after.descriptors > before.descriptors:
        grown.append(f"file descriptors: {before.descriptors} -> {after.descriptors}")
    return grown


def at_rest(pid: int) -> Footprint:
    """What the process takes when nobody asks."""
    time.sleep(REST_S)
    return footprint_of(pid)


def tell(what: str, taken: Footprint) -> None:
    print(
        f"{what:>10}: {taken.memory_kb / 1024:.1f} MiB, {taken.threads} threads, {taken.descriptors} descriptors,"
        f" {taken.cpu_s:.0f} s of CPU time, {taken.waited_s:.1f} s of waiting for it",
        flush=True,
    )


def first_stretch_s(minutes: float) -> float:
    return min(FIRST_S, 60 * minutes / 5)


def soak(port: int, pid: int, minutes: float) -> tuple[Traffic, Footprint, Footprint]:
    """The traffic, and what the server takes before and after it."""
    traffic = Traffic(port, seed=1)
    traffic.run(first_stretch_s(minutes))
    before = at_rest(pid)
    tell("before", before)
    ends = time.monotonic() + 60 * minutes
    while (left := ends - time.monotonic()) > 0:
        traffic.run(min(TOLD_EVERY_S, left))
        tell(f"{max(0.0, ends - time.monotonic()):.0f} s left", footprint_of(pid))
    after = at_rest(pid)
    tell("after", after)
    return traffic, before, after


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, metavar="N", help=f"{MINUTES:g}, or {DEBUG_MINUTES:g} with --debug")
    parser.add_argument("--debug", action="store_true", help="with asyncio's debug mode and Python's warnings")
    options = parser.parse_args(arguments)
    minutes = options.minutes or (DEBUG_MINUTES if options.debug else MINUTES)
    os.sched_setaffinity(0, {LOAD_CORE})
    wish = {"what": "echo"}
    first = Question(json.dumps(wish).encode(), lambda content: json.loads(content) == {"echo": wish})
    with alone(MODELS / "soak", first, environment=DEBUG if options.debug else {}) as server:
        traffic, before, after = soak(server.port, server.pid, minutes)
        complaints = complaints_of(server.log.read_text(errors="replace"))
    worrying = unexplained(complaints, after.waited_s - before.waited_s)
    print(", ".join(f"{name} {count:,}" for name, count in sorted(traffic.played.items())))
    room_kb = FLAT_KB if first_stretch_s(minutes) == FIRST_S else SHORT_FLAT_KB
    worries = [f"WRONG: {mistake}" for mistake in traffic.mistakes]
    worries += [f"GROWN: {grown}" for grown in growth_of(before, after, room_kb)]
    worries += [f"LOGGED: {line[:1000]}" for line in worrying[:20]]
    others = len(complaints) - len(worrying)
    print(f"{traffic.mistaken} wrong, {len(worrying)} warnings in the log, {others} while others had the core")
    for worry in worries:
        print(worry)
    return 1 if worries else 0


if __name__ == "__main__":
    sys.exit(main())
