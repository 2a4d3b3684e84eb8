"""Rounds that take turns: A B C A B C ..., all contestants alive, and those whose turn it is not frozen.

A contestant that cannot be installed, does not start or answers wrongly stays in the results with its reason; one
that errs in a round is started anew for the next workload. Called by bench/__main__.py.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from bench import environments
from bench.contestants.field import Contestant, Job
from bench.environments import CACHE, InstallError
from bench.load.closed import Closed
from bench.load.idle import Idle
from bench.load.one_by_one import OneByOne
from bench.load.open_loop import OpenLoop
from bench.load.paced import Paced
from bench.load.quantiles import Figures
from bench.questions import Question
from bench.server import ContestantError, Server, TooSlowError, free_port
from bench.workloads import HalfLoad, Start, Workload, first_question

FLOOR: Final = "floor"
WARM_AT: Final = 16  # connections of the warm-up; few, as some works are slow
WARM_S: Final = 1
LONG_S: Final = 12  # the slowest need it for eight times 1 MB of JSON, and for 1,024 connections
CAPACITY_AT: Final = 64  # connections at which half of what is answered is half load

# results[workload][contestant]: {"rounds": [Figures, ...]} and perhaps {"error": reason} or {"lacks": reason}.
Results = dict[str, dict[str, dict[str, Any]]]


class Load(Protocol):
    """is_all_requests: whether the server's CPU time of a round went into the requests it counted, and no others.

    checks_answers: it sees by itself that each is right.
    """

    is_all_requests: ClassVar[bool]
    checks_answers: ClassVar[bool]

    def drive(self, server: Server, question: Question, seconds: int) -> Figures: ...


class Rounds:
    """One run. after_each: called with the results so far after every workload."""

    def __init__(
        self, contestants: Sequence[Contestant], rounds: int, seconds: int, after_each: Callable[[Results], None]
    ) -> None:
        self._contestants = contestants
        self._rounds = rounds
        self._seconds = seconds
        self._after_each = after_each
        self._capacities: dict[str, float] = {}
        self.results: Results = {}

    def run(self, workloads: Iterable[Workload]) -> Results:
        """Workloads of the same work and slots share their servers; torch's are installed only if one asks for it.

        But not idle connections: they would be given memory that others have left free, and seem to take none.
        """
        pythons = self._install()
        for _, group in itertools.groupby(workloads, lambda w: (w.work, w.slots, isinstance(w.load, Idle))):
            self._run_group(list(group), pythons)
        return self.results

    def _install(self) -> dict[str, Path | str]:
        """The python of each contestant, or why it has none."""
        pythons: dict[str, Path | str] = {}
        for contestant in self._contestants:
            try:
                pythons[contestant.name] = environments.ensure(contestant)
            except InstallError as reason:
                pythons[contestant.name] = f"not installed: {reason}"
                say(contestant.name, f"not installed: {reason}")
        return pythons

    def _run_group(self, workloads: list[Workload], pythons: dict[str, Path | str]) -> None:
        servers: dict[str, Server] = {}
        reasons: dict[str, dict[str, str]] = {}
        for contestant in self._contestants:
            python = pythons[contestant.name]
            work = workloads[0].work
            if work in contestant.lacks:
                reasons[contestant.name] = {"lacks": contestant.lacks[work]}
            elif isinstance(python, str):
                reasons[contestant.name] = {"error": python}
            else:
                servers[contestant.name] = self._make(contestant, workloads[0], python)
        try:
            for name, server in servers.items():
                reason = self._start(server, workloads[0])
                if reason:
                    reasons[name] = {"error": reason}
            for workload in workloads:
                self._run_workload(workload, servers, reasons)
                self._after_each(self.results)
        finally:
            with contextlib.ExitStack() as ends:  # all of them, whatever one of them raises
                for server in servers.values():
                    ends.callback(server.end)

    def _make(self, contestant: Contestant, workload: Workload, python: Path) -> Server:
        folder = CACHE / "run" / f"{contestant.name}-{workload.work}"
        job = Job(python, workload.work, workload.slots, free_port(), folder)
        environment = {"BENCH_TORCH": str(environments.ensure_torch())} if workload.needs_torch else {}
        return Server(contestant, job, first_question(workload.work), environment)

    def _start(self, server: Server, workload: Workload) -> str:
        """Start, warm up, freeze. Returns what went wrong, if anything did."""
        began = time.monotonic()
        try:
            server.start()
            say(server.contestant.name, f"{workload.work} started", began)
            self._warm(server, workload)
            say(server.contestant.name, f"{workload.work} warm", began)
        except ContestantError as reason:
            say(server.contestant.name, f"{workload.work}: {reason}")
            server.end()
            return str(reason)
        server.freeze()
        return ""

    def _warm(self, server: Server, workload: Workload) -> None:
        """Up to WARM_S of load that is not counted; one that brings nothing is for the rounds to find."""
        load: Load = workload.load if isinstance(workload.load, OneByOne | Paced) else Closed(WARM_AT)
        with contextlib.suppress(ContestantError, OSError):
            load.drive(server, workload.question, WARM_S)

    def _run_workload(
        self, workload: Workload, servers: dict[str, Server], reasons: dict[str, dict[str, str]]
    ) -> None:
        entries = {contestant.name: self._entry(contestant, workload, reasons) for contestant in self._contestants}
        self.results[workload.name] = entries
        rounds = min(self._rounds, workload.most_rounds)
        for turn in range(rounds):
            for name, server in servers.items():
                entry = entries[name]
                if "error" in entry or "lacks" in entry:
                    continue
                began = time.monotonic()
                try:
                    figures = self._turn(workload, server, servers)
                except (ContestantError, OSError) as reason:
                    entry["error"] = str(reason) or repr(reason)
                    self._revive(server, workload, reasons)
                    say(name, f"{workload.name}: {entry['error']}")
                else:
                    entry["rounds"].append(figures)
                    say(name, f"{workload.name} {turn + 1}/{rounds}: {brief(figures)}", began)

    def _entry(
        self, contestant: Contestant, workload: Workload, reasons: dict[str, dict[str, str]]
    ) -> dict[str, Any]:
        """What the results begin with: no rounds yet, or the reason why there will be none."""
        lacked = contestant.lacks.get(workload.family)
        return {"rounds": [], **({"lacks": lacked} if lacked else reasons.get(contestant.name, {}))}

    def _revive(self, server: Server, workload: Workload, reasons: dict[str, dict[str, str]]) -> None:
        """Start an erring server anew, so that the next workload finds it well."""
        server.end()
        reason = self._start(server, workload)
        if reason:
            reasons[server.contestant.name] = {"error": reason}

    def _turn(self, workload: Workload, server: Server, servers: dict[str, Server]) -> Figures:
        """One round of one contestant, which must answer rightly before and after it. Raises ContestantError."""
        if isinstance(workload.load, Start):
            return self._restart(server)
        if isinstance(workload.load, HalfLoad):
            return self._turn_at_half_load(workload, server, servers.get(FLOOR))
        return self._load_for_long_enough(workload.load, workload.question, server)

    def _load_for_long_enough(self, load: Load, question: Question, server: Server) -> Figures:
        """Once more, for LONG_S, with no right answer or fewer answers than connections: few but the quickest count.

        A refusal is an answer. It is a total: that each connection had one of them is not seen.
        """
        with contextlib.suppress(TooSlowError):
            figures = self._load(load, question, server, self._seconds)
            if not (isinstance(load, Closed) and figures["answers"] < load.connections):
                return figures
        return self._load(load, question, server, max(self._seconds, LONG_S))

    def _load(self, load: Load, question: Question, server: Server, seconds: int) -> Figures:
        """Thaw, load, freeze; with what it cost the server."""
        server.thaw()
        try:
            if not load.checks_answers:
                server.check(question)
            before_s = server.cpu_s()
            figures = load.drive(server, question, seconds)
            if load.is_all_requests:
                figures["cpu_us"] = (server.cpu_s() - before_s) / figures["requests"] * 1e6
            figures["memory_kb"] = server.memory_kb()
            if not load.checks_answers:
                server.check(question)
        finally:
            server.freeze()
        return figures

    def _turn_at_half_load(self, workload: Workload, server: Server, floor: Server | None) -> Figures:
        """Half of what this contestant answered in a closed loop; and what the floor's quantiles are at that rate."""
        name = server.contestant.name
        if name not in self._capacities:
            closed = self.results.get(f"sync-c{CAPACITY_AT}", {}).get(name, {}).get("rounds")
            closed = closed or [self._load(Closed(CAPACITY_AT), workload.question, server, self._seconds)]
            self._capacities[name] = statistics.median(figures["rps"] for figures in closed)
        half = OpenLoop(self._capacities[name] / 2)
        figures = self._load(half, workload.question, server, self._seconds)
        if floor is not None:
            beside = figures if floor is server else self._load(half, workload.question, floor, self._seconds)
            figures.update({f"floor_{name}": beside[name] for name in ("p50_us", "p999_us")})
        return figures

    def _restart(self, server: Server) -> Figures:
        server.end()
        server.start()
        figures = {"start_s": server.start_s, "memory_kb": float(server.memory_kb()), "errors": 0.0}
        server.freeze()
        return figures


def brief(figures: Figures) -> str:
    """One line of what matters, for those who watch."""
    shown = {"rps": "/s", "cpu_us": "us CPU", "p50_us": "us p50", "p999_us": "us p99.9", "start_s": "s to start"}
    parts = [f"{figures[name]:,.4g} {unit}" for name, unit in shown.items() if name in figures]
    if figures.get("errors"):
        parts.append(f"{figures['errors']:.0f} ERRORS")
    return ", ".join(parts)


def say(name: str, text: str, began: float | None = None) -> None:
    took = f" ({time.monotonic() - began:.1f} s)" if began is not None else ""
    print(f"{name:>10} {text}{took}", file=sys.stderr, flush=True)
