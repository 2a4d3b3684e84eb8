"""The results of a run as JSON, and the medians with their spread that table, plots and page are made of.

Leaves how they look to bench/report/table.py and plots.py. Called by bench/__main__.py, after every workload.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = "results.json"
FLOOR: Final = "floor"


@dataclass(frozen=True)
class Cell:
    """One figure of one contestant. spread: half of the range of its rounds, as a part of the median."""

    median: float
    spread: float


class Run:
    """What results.json holds: machine, rounds, seconds, versions, and the rounds of each workload and contestant."""

    def __init__(self, written: Mapping[str, Any]) -> None:
        self.machine: dict[str, str] = written["machine"]
        self.rounds: int = written["rounds"]
        self.seconds: int = written["seconds"]
        self.versions: dict[str, dict[str, str]] = written["versions"]
        self._results: dict[str, dict[str, dict[str, Any]]] = written["results"]

    @property
    def workloads(self) -> list[str]:
        return list(self._results)

    def contestants(self, workload: str) -> list[str]:
        """All that were to take part; see `why_not`."""
        return list(self._results.get(workload, {}))

    def why_not(self, workload: str, contestant: str) -> tuple[str, str] | None:
        """("error" or "lacks", the reason) for one that has no full set of rounds, else None."""
        entry = self._results[workload][contestant]
        return next(((kind, entry[kind]) for kind in ("error", "lacks") if kind in entry), None)

    def values(self, workload: str, contestant: str, figure: str) -> list[float]:
        rounds = self._results.get(workload, {}).get(contestant, {}).get("rounds", [])
        return [figures[figure] for figures in rounds if figure in figures]

    def cell(self, workload: str, contestant: str, figure: str) -> Cell | None:
        """The median of its rounds, None if there are none."""
        values = self.values(workload, contestant, figure)
        if not values:
            return None
        median = statistics.median(values)
        return Cell(median, (max(values) - min(values)) / 2 / median if median else 0.0)

    def errors(self, workload: str, contestant: str) -> int:
        """Of all its rounds together."""
        return round(sum(self.values(workload, contestant, "errors")))

    def ratio(self, workload: str, contestant: str, figure: str, base: str = FLOOR) -> float | None:
        """The median of the ratios to `base` in the same round; None where either has none."""
        pairs = zip(self.values(workload, contestant, figure), self.values(workload, base, figure), strict=False)
        ratios = [mine / other for mine, other in pairs if other]
        return statistics.median(ratios) if ratios else None


def save(
    folder: Path,
    machine: Mapping[str, str],
    rounds: int,
    seconds: int,
    versions: Mapping[str, Mapping[str, str]],
    results: Mapping[str, Any],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    written = {
        "machine": machine,
        "rounds": rounds,
        "seconds": seconds,
        "versions": versions,
        "results": results,
    }
    (folder / FILE).write_text(json.dumps(written, indent=1) + "\n")


def load(folder: Path) -> Run:
    """Raises FileNotFoundError if nothing was measured into `folder`."""
    return Run(json.loads((folder / FILE).read_text()))
