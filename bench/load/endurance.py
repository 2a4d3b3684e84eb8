"""A long run: random requests by wrk at c=64, beside clients that check each answer. python -m bench.load.endurance

Prints errors, and memory before and after. Ends with status 1 if an answer was wrong or missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from bench import questions
from bench.load.alone import MODELS, alone
from bench.server import LOAD_CORE, Server

SCRIPT: Final = Path(__file__).with_name("random.lua")
CONNECTIONS: Final = 64
STRETCH_S: Final = 10  # of wrk; as many as the wanted count takes
CHECKERS: Final = 2


class Checker(threading.Thread):
    """One client whose payloads are random, each checked for its own answer. mistake: what ended it, if anything."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__()
        self.count = 0
        self.mistake: Exception | None = None
        self.must_stop = False
        self._server = server
        self._seed = seed

    def run(self) -> None:
        try:
            while not self.must_stop:
                self._server.ask(questions.echo(self._payload(random.Random(f"{self._seed}-{self.count}"))))
                self.count += 1
        except Exception as mistake:  # noqa: BLE001 - told at the end
            self.mistake = mistake

    def _payload(self, chance: random.Random) -> object:
        text = "x" * chance.choice([0, 10, 1000, 100_000])
        return {"n": chance.random(), "text": text, "list": [self.count, self._seed]}


def load(server: Server, seconds: int) -> dict[str, int]:
    """What random.lua prints: requests, errors, and answers that are not of the right form."""
    pinned = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    where = ["-s", str(SCRIPT), f"http://127.0.0.1:{server.port}{server.path}"]
    done = subprocess.run([*pinned, *where], check=True, capture_output=True, text=True)
    measured: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, metavar="N", help="at least so many")
    wanted = parser.parse_args().requests
    os.sched_setaffinity(0, {LOAD_CORE})
    with alone(MODELS / "echo", questions.trivial()) as server:
        load(server, 2)
        before_kb = server.resident_kb()
        checkers = [Checker(server, seed) for seed in range(CHECKERS)]
        for checker in checkers:
            checker.start()
        done = wrong = 0
        while done < wanted:
            measured = load(server, STRETCH_S)
            done += measured["requests"]
            wrong += measured["errors"] + measured["wrong"]
        for checker in checkers:
            checker.must_stop = True
        for checker in checkers:
            checker.join()
        after_kb = server.resident_kb()
    checked = sum(checker.count for checker in checkers)
    print(
        f"{done:,} requests, {wrong} errors; {checked:,} random payloads checked; "
        f"resident memory {before_kb / 1024:.1f} -> {after_kb / 1024:.1f} MiB"
    )
    mistakes = [checker.mistake for checker in checkers if checker.mistake is not None]
    for mistake in mistakes:
        print(f"WRONG: {mistake!r}")
    return 1 if wrong or mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
