"""The figures of one round, and the quantiles among them."""

from __future__ import annotations

from collections.abc import Iterable

# By name: `requests`, `seconds`, `rps`, `errors`, quantiles in us, and what a load has of its own. How they are shown
# is in bench/report/table.py.
Figures = dict[str, float]


def quantile(values: list[float], part: float) -> float:
    """The smallest value that at least `part` of them do not exceed. values: in order, at least one."""
    return values[min(len(values) - 1, int(len(values) * part))]


def in_us(latencies_s: Iterable[float]) -> Figures:
    """p50, p99 and p99.9 in microseconds of latencies in seconds, at least one."""
    values = sorted(latencies_s)
    parts = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {name: quantile(values, part) * 1e6 for name, part in parts.items()}
