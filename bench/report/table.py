"""The Markdown tables: one for each workload, a row for each contestant, whether it took part or not.

Leaves the figures to bench/report/results.py. Called by bench/report/page.py and bench/__main__.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench import workloads
from bench.contestants import field
from bench.load.closed import Closed
from bench.load.idle import Idle
from bench.load.one_by_one import OneByOne
from bench.load.paced import Paced
from bench.report.results import FLOOR, Run
from bench.workloads import HalfLoad, Workload


@dataclass(frozen=True)
class Column:
    """show: how a median is written. has_ratio: to the floor, in the same round."""

    title: str
    figure: str
    show: Callable[[float], str]
    has_ratio: bool = False


def whole(value: float) -> str:
    return f"{value:,.0f}"


def tenths(value: float) -> str:
    return f"{value:,.1f}"


def us_as_ms(value: float) -> str:
    return f"{value / 1000:,.2f}"


def kb_as_mb(value: float) -> str:
    return f"{value * 1024 / 1e6:,.1f}"


def as_mb(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def seconds(value: float) -> str:
    return f"{value:.2f}"


RATE: Final = Column("requests/s", "rps", whole, has_ratio=True)
CPU: Final = Column("CPU us/request", "cpu_us", tenths, has_ratio=True)
QUANTILES: Final = (
    Column("p50 ms", "p50_us", us_as_ms, has_ratio=True),
    Column("p99 ms", "p99_us", us_as_ms),
    Column("p99.9 ms", "p999_us", us_as_ms),
)
MEMORY: Final = Column("memory MB", "memory_kb", kb_as_mb)
PREDICT: Final = (Column("predict us", "predict_us", whole), Column("beyond predict us", "overhead_us", whole))


def columns(workload: Workload) -> list[Column]:
    """What is told of a workload, by the kind of its load."""
    load = workload.load
    if isinstance(load, Closed):
        predict = PREDICT if workload.question.says_predict_us and workload.slots == 1 else ()
        return [RATE, CPU, *QUANTILES, *predict, MEMORY]
    if isinstance(load, OneByOne):
        is_stream = workload.work.startswith("stream")
        rate = ("chunks/s", whole) if is_stream else ("MB/s", as_mb)
        first = Column("first chunk ms", "first_us", us_as_ms)
        peak = Column("peak memory MB", "peak_kb", kb_as_mb)
        cpu = Column("CPU ms each", "cpu_us", us_as_ms)
        return [Column(rate[0], "units_per_s", rate[1], has_ratio=True), cpu, first if is_stream else peak, MEMORY]
    if isinstance(load, Paced):
        return [Column("chunks/s", "rps", whole), Column("CPU us/chunk", "cpu_us", tenths), *QUANTILES, MEMORY]
    if isinstance(load, HalfLoad):
        beside = Column("floor's p50 ms at this rate", "floor_p50_us", us_as_ms)
        late = Column("client late us (p99)", "late_us", tenths)
        return [Column("rate/s", "rate", whole), CPU, *QUANTILES, beside, late, MEMORY]
    if isinstance(load, Idle):
        each = Column("KiB each", "idle_kb", tenths)
        return [each, Column("still open", "kept", whole), RATE, QUANTILES[1], MEMORY]
    return [Column("seconds", "start_s", seconds), MEMORY]


def workload_table(run: Run, workload: Workload) -> str:
    """Medians, the first with half the range of its rounds; `x` is the ratio to the floor in the same round."""
    shown = columns(workload)
    lines = [
        f"| {workload.title} | " + " | ".join(column.title for column in shown) + " | errors |",
        "|---|" + "---|" * (len(shown) + 1),
    ]
    lines += [_row(run, workload, contestant, shown) for contestant in run.contestants(workload.name)]
    return "\n".join(lines)


def _row(run: Run, workload: Workload, contestant: str, shown: list[Column]) -> str:
    title = field.BY_NAME[contestant].title
    reason = run.why_not(workload.name, contestant)
    if reason is not None:
        kind, text = reason
        told = f"**failed**: {_plain(text)}" if kind == "error" else f"not offered: {_plain(text)}"
        return f"| {title} | {told} |" + " |" * len(shown)
    has_spread = run.rounds > 1
    cells = [
        _cell(run, workload.name, contestant, column, with_spread=has_spread and column is shown[0])
        for column in shown
    ]
    errors = run.errors(workload.name, contestant)
    return f"| {title} | " + " | ".join(cells) + f" | {f'**{errors}**' if errors else 0} |"


def _cell(run: Run, workload: str, contestant: str, column: Column, *, with_spread: bool) -> str:
    cell = run.cell(workload, contestant, column.figure)
    if cell is None:
        return ""
    text = column.show(cell.median)
    if with_spread:
        text += f" ±{cell.spread * 100:.0f} %"
    ratio = run.ratio(workload, contestant, column.figure) if column.has_ratio and contestant != FLOOR else None
    return text if ratio is None else f"{text} (x{ratio:.2f})"


def _plain(reason: str) -> str:
    """A reason on one line that cannot break a table."""
    return " ".join(reason.split()).replace("|", "/").replace("`", "'")[:160]


def machine_table(run: Run) -> str:
    facts = [f"| {name} | {text} |" for name, text in run.machine.items()]
    rounds = f"| rounds | {run.rounds} of {run.seconds} s, interleaved; medians, ± half their range |"
    return "\n".join(["| what | |", "|---|---|", *facts, rounds])


def version_table(run: Run) -> str:
    lines = ["| contestant | version | and |", "|---|---|---|"]
    for name, installed in run.versions.items():
        package = field.BY_NAME[name].package
        others = ", ".join(
            f"{other} {installed[other]}" for other in BESIDE if other in installed and other != package
        )
        lines.append(f"| {field.BY_NAME[name].title} | {installed.get(package or '', '')} | {others} |")
    return "\n".join(lines)


BESIDE: Final = ("uvicorn", "starlette", "fastapi", "uvloop", "httptools", "h11", "orjson", "pydantic", "numpy")


def tables(run: Run) -> Iterator[str]:
    for name in run.workloads:
        yield f"### {name}\n\n{workload_table(run, workloads.BY_NAME[name])}\n"


def document(run: Run) -> str:
    """All of a run as one Markdown text."""
    head = "# Results\n\nWritten by `python -m bench`; see bench/README.md for what is measured and how.\n"
    ratios = "`x` is the median of the ratios to the floor in the same round."
    return "\n".join([head, machine_table(run), "", version_table(run), "", ratios, "", *tables(run)])
