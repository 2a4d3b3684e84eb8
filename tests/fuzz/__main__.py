"""`python -m tests.fuzz`: the long run, in two processes; or one stream again; or the run that coverage guides.

Ends with status 1 and the failing input, which is then in the corpus. What is run is `campaign.py`'s, `guided.py`'s.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.campaign import Campaign, Result, describe, run_share

PROCESSES: Final = 2
STREAMS_A_MINUTE: Final = 100_000


def _run_long(seed: str, minutes: float, streams: int) -> int:
    print(
        f"--seed {seed}: {minutes:g} minutes and {streams:,} streams at least, in {PROCESSES} processes", flush=True
    )
    began = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory, ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        stop = Path(directory, "stop")
        shares = [
            pool.submit(run_share, f"{seed}:{number}", minutes * 60, streams // PROCESSES, stop)
            for number in range(PROCESSES)
        ]
        results = [share.result() for share in shares]
    seconds = time.monotonic() - began
    total = sum(result.streams for result in results)
    print(f"{total:,} streams in {seconds:,.0f} s, {total / seconds:,.0f}/s, --seed {seed}")
    reports = [_report(number, result) for number, result in enumerate(results)]
    return int(any(reports))


def _report(number: int, result: Result) -> bool:
    """Returns whether something is wrong."""
    print(f"process {number}: {result.streams:,} streams; before {result.before}; at the end {result.after}")
    growth = result.after.growth_over(result.before) if result.is_warm else []
    for sentence in growth:
        print(f"FAILED: {sentence}")
    failure = result.failure
    if failure is not None:
        print(describe(failure))
        if failure.scenario is not None:
            corpus.add(corpus.FINDS, failure.scenario)
    return bool(growth) or failure is not None


def _run_only(name: str) -> int:
    prefix, _, number = name.rpartition(":")
    campaign = Campaign(prefix)
    try:
        failure = campaign.run_one(int(number))
    finally:
        campaign.close()
    print(f"{name} passes" if failure is None else describe(failure))
    return int(failure is not None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, help="at least so many; 100,000 a minute without")
    parser.add_argument("--seed", default=str(time.time_ns()), help="the same streams as an earlier run")
    parser.add_argument("--only", metavar="SEED:PROCESS:TURN", help="one turn of an earlier run")
    parser.add_argument("--guided", action="store_true", help="guided by coverage, for --minutes; needs atheris")
    arguments = parser.parse_args()
    if arguments.only is not None:
        return _run_only(arguments.only)
    if arguments.guided:
        from tests.fuzz.guided import run_guided  # needs a package that not every Python has

        return run_guided(arguments.minutes * 60)
    streams = int(arguments.minutes * STREAMS_A_MINUTE) if arguments.streams is None else arguments.streams
    return _run_long(arguments.seed, arguments.minutes, streams)


if __name__ == "__main__":
    sys.exit(main())
