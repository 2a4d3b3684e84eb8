"""The Markdown tables: one for each workload, a row for each contestant, whether it took part or not.

Leaves the figures to bench/report/results.py. Called by bench/report/page.py and bench/__main__.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bench import workloads
from bench.contestants import field
from bench.load.closed import Closed
from bench.load.idle import Idle
from bench.load.one_by_one import OneByOne
from bench.load.paced import Paced
from bench.report.results import FLOOR, Occasion, Run
from bench.rounds import LONG_S
from bench.workloads import HalfLoad, Workload

ONCE: Final = ", ".join(workload.name for workload in workloads.WORKLOADS if workload.most_rounds == 1)


@dataclass(frozen=True)
class Column:
    """show: how a median is written. has_ratio: to the floor, in the same round.

    least_answers: of a round, for the figure to be told.
    """

    title: str
    figure: str
    show: Callable[[float], str]
    has_ratio: bool = False
    least_answers: int = 0


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
    Column("p99.9 ms", "p999_us", us_as_ms, least_answers=1000),  # of fewer it is their maximum
)
MEMORY: Final = Column("memory MB", "memory_kb", kb_as_mb)
PREDICT: Final = (Column("predict us", "predict_us", whole), Column("between predicts us", "between_us", whole))


def columns(workload: Workload) -> list[Column]:
    """What is told of a workload, by the kind of its load."""
    load = workload.load
    if isinstance(load, Closed):
        predict = PREDICT if workload.question.is_timed else ()
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
        beside = (
            Column("floor's p50 at this rate", "floor_p50_us", us_as_ms),
            Column("floor's p99.9", "floor_p999_us", us_as_ms),
        )
        late = Column("client late us (p99)", "late_us", tenths)
        return [Column("rate/s", "rate", whole), CPU, *QUANTILES, *beside, late, MEMORY]
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
    has_spread = len(run.values(workload.name, contestant, shown[0].figure)) > 1
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
    if run.fewest_answers(workload, contestant) < column.least_answers:
        return "-"
    text = column.show(cell.median)
    if with_spread:
        text += f" ±{cell.spread * 100:.0f} %"
    ratio = run.ratio(workload, contestant, column.figure) if column.has_ratio and contestant != FLOOR else None
    return text if ratio is None else f"{text} (x{ratio:.2f})"


def _plain(reason: str) -> str:
    """A reason on one line that cannot break a table."""
    return " ".join(reason.split()).replace("|", "/").replace("`", "'")[:160]


def machine_table(run: Run) -> str:
    """What is true of all that was measured; what differs is in `occasion_table`."""
    return "\n".join(["| what | |", "|---|---|", *(f"| {name} | {text} |" for name, text in _common(run).items())])


def occasion_table(run: Run) -> str:
    """Which workloads were measured when, and what was then other than at the latest; empty for one occasion."""
    if len(run.occasions) < 2:
        return ""
    common = _common(run)
    names = [name for name in _facts(run.occasions[-1]) if name not in common]
    lines = ["| measured | " + " | ".join(names) + " | other versions |", "|---|" + "---|" * (len(names) + 1)]
    for occasion in run.occasions:
        measured = ", ".join(name for name in run.workloads if run.occasion(name) == occasion)
        facts = [_plain(_facts(occasion).get(name, "")) for name in names]
        lines.append("| " + " | ".join([measured, *facts, _other_versions(occasion, _versions(run))]) + " |")
    return "\n".join(lines)


def _facts(occasion: Occasion) -> dict[str, str]:
    longer = f"{max(occasion.seconds, LONG_S)} s where repeated"
    rounds = f"{occasion.rounds} of {occasion.seconds} s ({ONCE}: 1; {longer}), interleaved"
    return {**occasion.facts, "rounds": f"{rounds}; medians, ± half their range"}


def _common(run: Run) -> dict[str, str]:
    """The facts that all occasions share."""
    described = [_facts(occasion) for occasion in run.occasions]
    first = described[0] if described else {}
    return {name: text for name, text in first.items() if all(facts.get(name) == text for facts in described)}


def _versions(run: Run) -> dict[str, Mapping[str, str]]:
    """What each contestant had installed at its latest occasion."""
    return {name: installed for occasion in run.occasions for name, installed in occasion.versions.items()}


def _other_versions(occasion: Occasion, latest: Mapping[str, Mapping[str, str]]) -> str:
    """Of the packages that `version_table` tells, those that the contestant had in another version than `latest`."""
    return ", ".join(
        f"{package} {installed[package]} ({name})"
        for name, installed in occasion.versions.items()
        for package in (field.BY_NAME[name].package or "", *BESIDE)
        if package in installed and installed[package] != latest[name].get(package)
    )


def version_table(run: Run) -> str:
    lines = ["| contestant | version | and |", "|---|---|---|"]
    for name, installed in _versions(run).items():
        package = field.BY_NAME[name].package
        others = ", ".join(
            f"{other} {installed[other]}" for other in BESIDE if other in installed and other != package
        )
        lines.append(f"| {field.BY_NAME[name].title} | {installed.get(package or '', '')} | {others} |")
    return "\n".join(lines)


BESIDE: Final = ("uvicorn", "starlette", "fastapi", "uvloop", "httptools", "h11", "orjson", "pydantic", "numpy")


def tables(run: Run) -> Iterator[str]:
    for workload in workloads.WORKLOADS:
        if workload.name in run.workloads:
            yield f"### {workload.name}\n\n{workload_table(run, workload)}\n"


def document(run: Run) -> str:
    """All of a run as one Markdown text."""
    head = "# Results\n\nWritten by `python -m bench`; see bench/README.md for what is measured and how.\n"
    signs = (
        "`x` is the median of the ratios to the floor in the same round; `-` is the p99.9 of a round with fewer than "
        "1,000 answers, which would be their maximum."
    )
    parts = [machine_table(run), occasion_table(run), version_table(run), signs]
    return "\n".join([head, *(f"{part}\n" for part in parts if part), *tables(run)])
