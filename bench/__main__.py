"""The command: `python -m bench`, from argv to a run and its report.

Leaves measuring to bench/rounds.py and writing to bench/report. Results are saved after every workload, beside those
of others that are there, so that a run may be cut short and gone on with.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

from bench import environments, machine, workloads
from bench.contestants import field
from bench.contestants.field import ROOT, Contestant
from bench.report import page, plots, results, table
from bench.rounds import Results, Rounds
from bench.server import LOAD_CORE
from bench.workloads import Workload

OUT: Final = ROOT / "bench" / "results"
ROUNDS: Final = 3  # the median of 3 is not moved by one that something else on the machine disturbed
QUICK_S: Final = 2
FULL_S: Final = 1  # all contestants and workloads are 1,600 rounds: about an hour
TOOLS: Final = ("wrk", "taskset")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure fastserve and its peers side by side: see bench/README.md.",
        epilog="Contestants: " + ", ".join(field.BY_NAME) + ". Workloads: " + ", ".join(workloads.BY_NAME) + ".",
    )
    parser.add_argument("--contestants", metavar="A,B", help=f"default: {','.join(workloads.QUICK_CONTESTANTS)}")
    parser.add_argument("--workloads", metavar="A,B", help="names, or what they begin with: sync, json, upload")
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS, help=f"of each, default {ROUNDS}")
    parser.add_argument("--seconds", type=int, metavar="S", help=f"of a round, whole ones, default {QUICK_S}")
    parser.add_argument(
        "--full", action="store_true", help=f"all contestants and workloads, rounds of {FULL_S} s: about an hour"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where results go: bench/results")
    parser.add_argument("--fresh", action="store_true", help="drop what DIR has of other workloads")
    parser.add_argument("--missing", action="store_true", help="only what DIR lacks, of these contestants and rounds")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: write the report of DIR's results anew"
    )
    parser.add_argument("--page", action="store_true", help="also fill the figures of both READMEs")
    return parser


def chosen_contestants(words: str | None, *, full: bool) -> list[Contestant]:
    """Raises ValueError for a name that there is not."""
    names = words.split(",") if words else [*field.BY_NAME] if full else [*workloads.QUICK_CONTESTANTS]
    for name in names:
        if name not in field.BY_NAME:
            raise ValueError(f"no contestant {name!r}; there are {', '.join(field.BY_NAME)}")
    return [contestant for contestant in field.CONTESTANTS if contestant.name in names]


def chosen_workloads(words: str | None, *, full: bool) -> list[Workload]:
    """Raises ValueError for a name that there is not."""
    if words is None and full:
        return list(workloads.WORKLOADS)
    return workloads.named(words.split(",") if words else list(workloads.QUICK))


def measure(
    options: argparse.Namespace, contestants: list[Contestant], chosen: list[Workload], before: results.Run
) -> None:
    """Into options.out, beside what is there: `before`, on the same machine."""
    facts = machine.describe()
    before.check_machine(facts)

    def save(measured: Results) -> None:
        versions = {contestant.name: environments.versions(contestant.name) for contestant in contestants}
        occasion = results.Occasion(facts, options.rounds, options.seconds, versions)
        results.save(options.out, before.joined(occasion, measured))

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended then too
    os.sched_setaffinity(0, {LOAD_CORE})
    Rounds(contestants, options.rounds, options.seconds, save).run(chosen)


def write_report(folder: Path, *, with_page: bool) -> list[Path]:
    """The table and the plots beside the results, and the figures of the page. Returns the files."""
    run = results.load(folder)
    written = [folder / "table.md", *plots.draw_all(run, folder)]
    written[0].write_text(table.document(run))
    if with_page:
        for file in page.PAGES:
            page.fill(file, run)
        written += page.PAGES
    return written


def main() -> int:
    parser = make_parser()
    options = parser.parse_args()
    options.seconds = options.seconds or (FULL_S if options.full else QUICK_S)
    try:
        contestants = chosen_contestants(options.contestants, full=options.full)
        chosen = chosen_workloads(options.workloads, full=options.full)
    except ValueError as mistake:
        parser.error(str(mistake))
    if not options.report:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing or (os.cpu_count() or 1) < 2:
            parser.error(f"needs two cores and {', '.join(missing or TOOLS)}")
        before = results.Run({}, {}) if options.fresh else results.load(options.out)
        if options.missing:
            names = [contestant.name for contestant in contestants]
            chosen = [
                workload
                for workload in chosen
                if not before.has(workload.name, names, options.rounds, options.seconds)
            ]
        try:
            measure(options, contestants, chosen, before)
        except results.OtherMachineError as difference:
            parser.error(f"{options.out} was measured elsewhere ({difference}): use --fresh, or another --out")
    for file in write_report(options.out, with_page=options.page):
        print(file, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
