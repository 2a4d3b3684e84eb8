"""The figures of the README: what fastserve alone costs, in two short tables.

Called by bench/report/page.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bench.report.results import FLOOR, Run

OURS: Final = "fastserve"
SINK: Final = "sink"
NOTHING: Final = "(not measured in the last run)"

# (what is asked, contestant, workload)
_REQUESTS: Final = (
    ("the floor", FLOOR, "sync-c64"),
    ("plain `predict`", OURS, "sync-c64"),
    ("coroutine `predict`", OURS, "coroutine-c64"),
    ("plain preprocess, predict and postprocess", OURS, "steps-c64"),
    ("plain `predict`, 4 slots", OURS, "slots4-sync"),
    ("plain `predict`, 20 header fields", OURS, "heads-many"),
    ("plain `predict`, every header section differs", OURS, "heads-varied"),
    ("the same, 20 header fields", OURS, "heads-varied-many"),
    ("plain `predict`, one connection", OURS, "sync-c1"),
    ("coroutine `predict`, one connection", OURS, "coroutine-c1"),
)


def requests(run: Run) -> str:
    """Small requests, each kind beside the floor in the same rounds."""
    lines = []
    for title, contestant, workload in _REQUESTS:
        cells = [run.cell(workload, contestant, figure) for figure in ("rps", "cpu_us", "p50_us", "p99_us")]
        if None in cells:
            continue
        rate, cpu, p50, p99 = (cell.median for cell in cells if cell is not None)
        to_floor = [_to(run, workload, contestant, figure) for figure in ("rps", "cpu_us", "p50_us")]
        told = (f"{rate:,.0f}", to_floor[0], f"{cpu:.1f} us", to_floor[1], f"{p50 / 1000:.2f} ms", to_floor[2])
        lines.append(f"| {title} | {' | '.join(told)} | {p99 / 1000:.1f} ms |")
    columns = ("requests/s", "x the floor's", "CPU a request", "x", "p50", "x", "p99")
    head = f"| `POST` of a 9-byte object, 64 connections | {' | '.join(columns)} |"
    return "\n".join([head, "|---|" + "---|" * len(columns), *lines]) if lines else NOTHING


def _to(run: Run, workload: str, contestant: str, figure: str, base: str = FLOOR) -> str:
    ratio = run.ratio(workload, contestant, figure, base) if contestant != base else None
    return "" if ratio is None else f"{ratio:.2f}"


# (what, workload, figure, how a median is written)
_OTHERS: Final[tuple[tuple[str, str, str, Callable[[float], str]], ...]] = (
    ("start of the process to the first answered predict", "start", "start_s", lambda s: f"{s:.2f} s"),
    ("memory of a trivial model", "start", "memory_kb", lambda kb: f"{kb * 1024 / 1e6:.0f} MB"),
    ("an idle keep-alive connection, 10,000 open", "idle", "idle_kb", lambda kb: f"{kb:.1f} KiB"),
    ("10,000 chunks of 8 bytes from a generator", "stream-sync", "units_per_s", lambda n: f"{n:,.0f} chunks/s"),
    ("the same from an async generator", "stream-coroutine", "units_per_s", lambda n: f"{n:,.0f} chunks/s"),
    ("10 MB of raw bytes up", "upload-10m", "units_per_s", lambda n: f"{n / 1e9:.1f} GB/s"),
    ("10 MB of raw bytes down", "download-10m", "units_per_s", lambda n: f"{n / 1e9:.1f} GB/s"),
)


def others(run: Run) -> str:
    """What is no small request; large content beside one blocking socket that does nothing else."""
    lines = []
    for title, workload, figure, show in _OTHERS:
        cell = run.cell(workload, OURS, figure)
        if cell is not None:
            to_sink = _to(run, workload, OURS, figure, SINK)
            beside = f": {to_sink} of what one blocking socket does" if to_sink else ""
            lines.append(f"| {title} | {show(cell.median)}{beside} |")
    return "\n".join(["| what | measured |", "|---|---|", *lines]) if lines else NOTHING
