"""The figures of both READMEs: each place that is marked there is filled from the results, none is typed.

A place is what stands between `<!-- NAME -->` and `<!-- /NAME -->`; the names are the keys of PLACES. Called by
bench/__main__.py for `--page`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench import workloads
from bench.contestants import field
from bench.report import summary
from bench.report.results import FLOOR, Run
from bench.report.summary import NOTHING, OURS
from bench.report.table import machine_table, occasion_table, workload_table

BENCH: Final = Path(__file__).parents[1]
PAGES: Final = (BENCH / "README.md", BENCH.parent / "README.md")
SHARES: Final = BENCH / "results" / "shares.md"  # written by bench/shares.py
PROTOCOL: Final = "protocol"
_PLACE: Final = re.compile(r"(<!-- ([a-z0-9-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def fill(file: Path, run: Run) -> None:
    """Put the figures of `run` into every place of `file`. Raises KeyError for a place that has no name in PLACES."""
    file.write_text(filled(file.read_text(), run))


def filled(text: str, run: Run) -> str:
    return _PLACE.sub(lambda place: f"{place[1]}{PLACES[place[2]](run).rstrip()}\n{place[3]}", text)


def _table(name: str) -> Callable[[Run], str]:
    def write(run: Run) -> str:
        return workload_table(run, workloads.BY_NAME[name]) if run.contestants(name) else NOTHING

    return write


def machine(run: Run) -> str:
    return f"{machine_table(run)}\n\n{occasion_table(run)}"


def against_connections(run: Run) -> str:
    """fastserve's cost against connections: which part of it grows."""
    return _growth(run, "sync", "connections")


def against_content(run: Run) -> str:
    return _growth(run, "json", "bytes of JSON")


def against_slots(run: Run) -> str:
    return _growth(run, "slots", "slots")


def _growth(run: Run, axis: str, what: str) -> str:
    rows = []
    for workload in workloads.WORKLOADS:
        if workload.plot != axis:
            continue
        cells = [run.cell(workload.name, OURS, figure) for figure in ("rps", "cpu_us", "p50_us", "p99_us")]
        if None in cells:
            continue
        rate, cpu, p50, p99 = (cell.median for cell in cells if cell is not None)
        ratio = run.ratio(workload.name, OURS, "cpu_us")
        to_floor = f"{ratio:.2f}" if ratio is not None else ""
        rows.append(
            f"| {workload.at:,.0f} | {rate:,.0f} | {cpu:,.1f} | {to_floor} | {p50 / 1000:,.2f} | {p99 / 1000:,.2f} |"
        )
    if not rows:
        return NOTHING
    head = (
        f"| {what} | requests/s | CPU us/request | x the floor's CPU | p50 ms | p99 ms |\n|---|---|---|---|---|---|"
    )
    return "\n".join([head, *rows])


def distance(run: Run) -> str:
    """CPU time of a request, layer upon layer: sockets and loop (floor), HTTP and JSON (bare protocol), fastserve."""
    lines = [
        "| CPU us/request | the floor | HTTP and JSON add | fastserve adds | together |",
        "|---|---|---|---|---|",
    ]
    for name in ("sync-c1", "sync-c64", "sync-c1024", "coroutine-c64", "steps-c64"):
        cells = [run.cell(name, contestant, "cpu_us") for contestant in (FLOOR, PROTOCOL, OURS)]
        floor, protocol, ours = (cell.median if cell is not None else None for cell in cells)
        if floor is not None and protocol is not None and ours is not None:
            lines.append(f"| {name} | {floor:.1f} | {protocol - floor:.1f} | {ours - protocol:.1f} | {ours:.1f} |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def against_peers(run: Run) -> str:
    """How many times a peer's requests per second fastserve answers, workload by workload."""
    wanted = ("sync-c64", "coroutine-c64", "stream-sync", "stream-coroutine")
    names = [name for name in wanted if run.contestants(name)]
    lines = ["| fastserve is faster than | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for contestant in field.BY_NAME:
        ratios = [_times(run, name, contestant) for name in names]
        if contestant not in (OURS, FLOOR) and any(ratios):
            lines.append(f"| {field.BY_NAME[contestant].title} | " + " | ".join(ratios) + " |")
    return "\n".join(lines) if names else NOTHING


def _times(run: Run, workload: str, contestant: str) -> str:
    figure = "units_per_s" if workload.startswith("stream") else "rps"
    ratio = run.ratio(workload, OURS, figure, base=contestant)
    return f"{ratio:,.1f} times" if ratio is not None else ""


def batching(run: Run) -> str:
    """What each that gathers batches makes of MiniLM with and without them: throughput at c=32, latency at c=1."""
    lines = [
        "| MiniLM | requests/s, c=32, one by one | in batches | times | p50 ms, c=1, one by one | in batches |",
        "|---|---|---|---|---|---|",
    ]
    for name, contestant in field.BY_NAME.items():
        rates = [run.cell(f"minilm{kind}-c32", name, "rps") for kind in ("", "-batched")]
        medians = [run.cell(f"minilm{kind}-c1", name, "p50_us") for kind in ("", "-batched")]
        one, batched, alone, gathered = (None if cell is None else cell.median for cell in (*rates, *medians))
        if one is not None and batched is not None and alone is not None and gathered is not None:
            lines.append(
                f"| {contestant.title} | {one:,.0f} | {batched:,.0f} | {batched / one:.1f} "
                f"| {alone / 1000:,.2f} | {gathered / 1000:,.2f} |"
            )
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def shares(run: Run) -> str:
    """What bench/shares.py has sampled, if it has been run; not part of `run`."""
    return SHARES.read_text() if SHARES.exists() else NOTHING


PLACES: Final[Mapping[str, Callable[[Run], str]]] = {
    "machine": machine,
    "peers": against_peers,
    "connections": against_connections,
    "content": against_content,
    "slots": against_slots,
    "shares": shares,
    "distance": distance,
    "batching": batching,
    "requests": summary.requests,
    "others": summary.others,
    **{name: _table(name) for name in workloads.BY_NAME},
}
