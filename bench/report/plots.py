"""The plots, as SVG: what a request costs and how many are answered, against connections, content size and slots.

Leaves the figures to bench/report/results.py. matplotlib is the `bench` extra. Called by bench/__main__.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench import workloads
from bench.contestants import field
from bench.report.results import Run
from bench.workloads import Workload


@dataclass(frozen=True)
class Axis:
    """One plot: the workloads whose `plot` is `name`, by their `at`."""

    name: str
    title: str
    x: str
    figures: tuple[tuple[str, str, float], ...]  # (figure, title with unit, what it is divided by)


BY_REQUEST: Final = (("rps", "requests/s", 1.0), ("cpu_us", "CPU us/request", 1.0), ("p99_us", "p99 ms", 1000.0))
BY_CONTENT: Final = (
    ("units_per_s", "MB/s", 1e6),
    ("cpu_us", "CPU ms/exchange", 1000.0),
    ("peak_kb", "peak memory MB", 1e6 / 1024),
)

AXES: Final = (
    Axis("sync", "trivial JSON, plain predict", "connections", BY_REQUEST),
    Axis("coroutine", "trivial JSON, coroutine predict", "connections", BY_REQUEST),
    Axis("json", "JSON there and back, c=8", "bytes of content", BY_REQUEST),
    Axis("slots", "a predict that sleeps 1 ms, c=64", "slots", BY_REQUEST),
    Axis("upload", "raw bytes up, one connection", "bytes of content", BY_CONTENT),
    Axis("download", "raw bytes down, one connection", "bytes of content", BY_CONTENT),
    Axis("tensor", "msgpack tensor up and down, one connection", "bytes of content", BY_CONTENT),
)

# A line of its own for each of the contestants: colours repeat after ten, so the dashes change there.
_COLOURS: Final = tuple(f"C{number}" for number in range(10))
_DASHES: Final = ("-", "--")


def draw_all(run: Run, folder: Path) -> list[Path]:
    """One SVG for each axis that has at least two points. Returns the files."""
    mpl.rcParams["svg.hashsalt"] = "bench"  # else the same results give another file each time
    return [folder / f"{axis.name}.svg" for axis in AXES if draw(run, axis, folder / f"{axis.name}.svg")]


def draw(run: Run, axis: Axis, file: Path) -> bool:
    """Draw one plot into `file`. Returns whether there was enough to draw."""
    points = [workload for workload in workloads.WORKLOADS if workload.plot == axis.name]
    measured = [workload for workload in points if run.contestants(workload.name)]
    if len(measured) < 2:
        return False
    width = 4.6 * len(axis.figures)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    panes = figure.subplots(1, len(axis.figures))
    for pane, (name, title, divisor) in zip(panes, axis.figures, strict=True):
        _draw_pane(pane, run, measured, name, divisor)
        pane.set(xscale="log", yscale="log", xlabel=axis.x, title=title)
        pane.set_xticks([workload.at for workload in measured], [_short(workload.at) for workload in measured])
        pane.minorticks_off()
        pane.grid(alpha=0.3)
    handles, labels = panes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small", frameon=False)
    figure.suptitle(f"{axis.title} (medians of rounds; bars: lowest and highest)")
    figure.savefig(file, metadata={"Date": None})
    return True


def _draw_pane(pane: Any, run: Run, measured: list[Workload], figure: str, divisor: float) -> None:
    for number, name in enumerate(field.BY_NAME):
        at, medians, below, above = [], [], [], []
        for workload in measured:
            cell = run.cell(workload.name, name, figure)
            if cell is None or cell.median <= 0:
                continue
            values = run.values(workload.name, name, figure)
            at.append(workload.at)
            medians.append(cell.median / divisor)
            below.append((cell.median - min(values)) / divisor)
            above.append((max(values) - cell.median) / divisor)
        if at:
            pane.errorbar(
                at,
                medians,
                yerr=(below, above),
                label=field.BY_NAME[name].title,
                color=_COLOURS[number % len(_COLOURS)],
                linestyle=_DASHES[number // len(_COLOURS)],
                linewidth=2.4 if name == "fastserve" else 1.2,
                marker="o",
                markersize=4,
                capsize=2,
            )


def _short(value: float) -> str:
    """1000 -> 1k, 10000000 -> 10M, and 1024 as it is."""
    for power, letter in ((1e6, "M"), (1e3, "k")):
        if value >= power and not value % power:
            return f"{value / power:g}{letter}"
    return f"{value:g}"
