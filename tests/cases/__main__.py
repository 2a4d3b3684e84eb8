"""`python -m tests.cases [HOST:PORT]`: every case over a socket, as a table; exit status 1 if one fails.

Starts its own server, or asks another one for comparison, of which only statuses and closing are judged. `-k WORD`
takes the cases whose name or source has the word.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator

from tests.cases import sockets
from tests.cases.case import Case
from tests.cases.judge import read
from tests.cases.load import load_cases
from tests.cases.rows import ROWS

# Another server is only shown, so that a case it never answers need not be waited for long.
COMPARISON_PATIENCE_S = 2.0

Verdict = tuple[str, list[str]]  # what came back, what is wrong with it
Runner = Callable[[Case], Verdict]


def main() -> int:
    """Run the cases and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.cases", description=__doc__)
    parser.add_argument("address", nargs="?", metavar="HOST:PORT", help="another server to compare with")
    parser.add_argument("-k", dest="word", default="", help="only cases with this in their name or source")
    arguments = parser.parse_args()
    count = failed = 0
    with _own_server() if arguments.address is None else contextlib.nullcontext(_other(arguments.address)) as run:
        for row, cases in load_cases().items():
            chosen = [c for c in cases if arguments.word.lower() in f"{c.name} {c.source}".lower()]
            print(f"\n{row} {ROWS[row]}" if chosen else "", end="\n" if chosen else "")
            for case in chosen:
                got, problems = run(case)
                print(_line(case, got, problems))
                count += 1
                failed += bool(problems)
    print(f"\n{count} cases, {failed} failed")
    return 1 if failed or not count else 0


@contextlib.contextmanager
def _own_server() -> Iterator[Runner]:
    with sockets.place() as where:

        def run(case: Case) -> Verdict:
            received, problems = sockets.run(case, where)
            return _summary(case, received), problems

        yield run


def _other(address: str) -> Runner:
    host, _, port = address.rpartition(":")

    def run(case: Case) -> Verdict:
        received = sockets.exchange(case, (host, int(port)), COMPARISON_PATIENCE_S)
        statuses = _statuses(case, received)
        wanted = [{str(status) for status in want.statuses} for want in case.all_wanted]
        is_same = received.is_closed and len(statuses) == len(wanted)
        is_same = is_same and all(map(set.__contains__, wanted, statuses))
        return _summary(case, received), [] if is_same else ["differs"]

    return run


def _summary(case: Case, received: sockets.Received) -> str:
    """The statuses of all answers, and how the connection ended."""
    return " ".join([*_statuses(case, received), "closed" if received.is_closed else "open"])


def _statuses(case: Case, received: sockets.Received) -> list[str]:
    try:
        return [str(answer.status) for answer in read(case, received.raw)]
    except Exception as error:  # noqa: BLE001 - whatever h11 finds is worth showing
        return [f"({type(error).__name__})"]


def _expected(case: Case) -> str:
    statuses = ["/".join(map(str, sorted(want.statuses))) for want in case.all_wanted]
    return " ".join([*statuses, "closed"])


def _line(case: Case, got: str, problems: list[str]) -> str:
    verdict = "ok" if not problems else "FAILED: " + "; ".join(problems)[:300]
    return f"  {case.name:<46} {case.source:<34} {_expected(case):<22} {got:<22} {verdict}"


if __name__ == "__main__":
    sys.exit(main())
