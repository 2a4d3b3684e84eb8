"""The results as JSON, and the medians with their spread that table, plots and page are made of.

Leaves how they look to bench/report/table.py and plots.py. What is measured joins what the file holds of other
workloads, each with the occasion it was measured on. Called by bench/__main__.py, after every workload.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = "results.json"
FLOOR: Final = "floor"
SAME: Final = ("processor", "cores")  # facts of the machine: figures of two that differ here do not belong together


class OtherMachineError(Exception):
    """A folder holds what another machine measured. Its text says what differs."""


@dataclass(frozen=True)
class Occasion:
    """What one command measured on. facts: of the machine, the date among them, by title.

    rounds, seconds: of each workload; versions: of all that is installed, by contestant and package.
    """

    facts: Mapping[str, str]
    rounds: int
    seconds: int
    versions: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Cell:
    """One figure of one contestant. spread: half of the range of its rounds, as a part of the median."""

    median: float
    spread: float


class Run:
    """What results.json holds: the rounds of each workload and contestant, and the occasion of each workload."""

    def __init__(self, occasions: Mapping[str, Occasion], results: Mapping[str, Mapping[str, Any]]) -> None:
        """Both by workload; results[workload][contestant] as bench/rounds.py has it."""
        self._occasions = occasions
        self._results = results

    @property
    def workloads(self) -> list[str]:
        return list(self._results)

    @property
    def occasions(self) -> list[Occasion]:
        """Each once, the latest last."""
        found: list[Occasion] = []
        for occasion in self._occasions.values():
            if occasion not in found:
                found.append(occasion)
        return sorted(found, key=lambda occasion: occasion.facts.get("date", ""))

    def occasion(self, workload: str) -> Occasion:
        return self._occasions[workload]

    def joined(self, occasion: Occasion, measured: Mapping[str, Any]) -> Run:
        """This, but of the workloads of `measured` what was measured now. Raises OtherMachineError."""
        self.check_machine(occasion.facts)
        return Run({**self._occasions, **dict.fromkeys(measured, occasion)}, {**self._results, **measured})

    def check_machine(self, facts: Mapping[str, str]) -> None:
        """Raises OtherMachineError unless all of this was measured on the machine of `facts`."""
        for occasion in self.occasions:
            for name in SAME:
                if occasion.facts.get(name) != facts.get(name):
                    raise OtherMachineError(f"{name}: {occasion.facts.get(name)}, not {facts.get(name)}")

    def entries(self, workload: str) -> Mapping[str, Any]:
        """The rounds, or the reason for none, of each contestant."""
        return self._results[workload]

    def contestants(self, workload: str) -> list[str]:
        """All that were to take part; see `why_not`."""
        return list(self._results.get(workload, {}))

    def has(self, workload: str, contestants: Iterable[str], rounds: int, seconds: int) -> bool:
        """Whether each of `contestants` was to take part in it, when so many rounds of so many seconds were asked."""
        if workload not in self._results:
            return False
        occasion = self.occasion(workload)
        is_alike = (occasion.rounds, occasion.seconds) == (rounds, seconds)
        return is_alike and set(contestants) <= set(self.contestants(workload))

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

    def fewest_answers(self, workload: str, contestant: str) -> float:
        """Of any of its rounds, with refusals where its load counts them; 0 if there is none."""
        answers = self.values(workload, contestant, "answers") or self.values(workload, contestant, "requests")
        return min(answers, default=0)

    def ratio(self, workload: str, contestant: str, figure: str, base: str = FLOOR) -> float | None:
        """The median of the ratios to `base` in the same round; None where either has none."""
        pairs = zip(self.values(workload, contestant, figure), self.values(workload, base, figure), strict=False)
        ratios = [mine / other for mine, other in pairs if other]
        return statistics.median(ratios) if ratios else None


def save(folder: Path, run: Run) -> None:
    """At once, so that what is cut short leaves the file as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    occasions = run.occasions
    written = {
        "occasions": [dataclasses.asdict(occasion) for occasion in occasions],
        "workloads": {
            name: {"occasion": occasions.index(run.occasion(name)), "contestants": run.entries(name)}
            for name in run.workloads
        },
    }
    new = folder / f"{FILE}.new"
    new.write_text(json.dumps(written, indent=1) + "\n")
    new.replace(folder / FILE)


def load(folder: Path) -> Run:
    """An empty one if nothing was measured into `folder`."""
    if not (folder / FILE).exists():
        return Run({}, {})
    written = json.loads((folder / FILE).read_text())
    occasions = [Occasion(**occasion) for occasion in written["occasions"]]
    workloads = written["workloads"]
    return Run(
        {name: occasions[workload["occasion"]] for name, workload in workloads.items()},
        {name: workload["contestants"] for name, workload in workloads.items()},
    )
