"""Of many scenarios the few that together reach all that the many do: which line of http11/ follows on which.

Counted with the interpreter's own tracing, 50 times as slow as a play without. Called by `guided.py` for the corpus.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import fastserve.http11
from fastserve.http11 import parser
from tests.fuzz.play import World
from tests.fuzz.scenario import Scenario
from tests.fuzz.watching import ViolationError

ROOM: Final = str(Path(fastserve.http11.__file__).parent)

Step = tuple[str, int, int]


class _Tracer:
    """Records which line comes behind which, in one function at a time."""

    def __init__(self) -> None:
        self.steps: set[Step] = set()

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(ROOM):
            return None
        last = code.co_firstlineno

        def trace_line(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            if event == "line":
                self.steps.add((code.co_filename, last, frame.f_lineno))
                last = frame.f_lineno
            return trace_line

        return trace_line


def steps_of(world: World, scenario: Scenario) -> set[Step]:
    """The steps from line to line that playing `scenario` takes."""
    for remembered in (parser.parse_request_line, parser._check_host):  # else only the first to ask takes the steps
        remembered.cache_clear()
    tracer = _Tracer()
    before = sys.gettrace()
    sys.settrace(tracer.trace)
    try:
        with contextlib.suppress(ViolationError):
            world.play(scenario)
    finally:
        sys.settrace(before)
    return tracer.steps


def reduce(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """Those that take a step which none shorter takes."""
    world = World()
    reached: set[Step] = set()
    kept = []
    for scenario in sorted(scenarios, key=lambda scenario: len(scenario.raw)):
        steps = steps_of(world, scenario)
        if not steps <= reached:
            reached |= steps
            kept.append(scenario)
    world.close()
    return kept
