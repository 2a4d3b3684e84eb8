"""Tells stuck from busy: a method of the model that has been at one request for too long, and where it is.

Looks every tick at what runs; requests themselves are not touched. Owned by `condition.py`, with --predict-watchdog
alone.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Final

from fastserve.model.running import Frames, Run

_logger: Final = logging.getLogger("fastserve")


class _Seen:
    """A run, as it was first seen, or as its stream last made headway. Held from one look to the next."""

    __slots__ = ("is_told", "key", "pulse", "since")

    def __init__(self, run: Run, now: float) -> None:
        self.key = run.key  # held, so that no other object can have its id
        self.pulse = run.pulse
        self.since = now
        self.is_told = False


class Watchdog:
    """Looks at what runs.

    is_stuck: something is stuck now. stuck_total: so many have been.
    oldest_s: for how long, at the latest look, the oldest had run or its stream had made no headway.
    """

    def __init__(self, limit_s: float, directory: str, find_runs: Callable[[], Iterable[Run]]) -> None:
        """limit_s: what is older is stuck. directory: the model's, for the part of a stack that is its own."""
        self._limit_s = limit_s
        self._directory = directory
        self._find_runs = find_runs
        self._seen: dict[int, _Seen] = {}
        self.is_stuck = False
        self.stuck_total = 0
        self.oldest_s = 0.0

    def look(self, now: float) -> None:
        """now: monotonic."""
        before, self._seen = self._seen, {}
        self.oldest_s = 0.0
        for run in self._find_runs():
            seen = before.get(id(run.key))
            if seen is None or seen.pulse != run.pulse:
                seen = _Seen(run, now)
            self._seen[id(run.key)] = seen
            self.oldest_s = max(self.oldest_s, now - seen.since)
            if not seen.is_told and now - seen.since >= self._limit_s:
                seen.is_told = True
                self.stuck_total += 1
                self._tell(run, now - seen.since)
        self.is_stuck = any(seen.is_told for seen in self._seen.values())
        for key, seen in before.items():
            if seen.is_told and self._seen.get(key) is not seen:
                _logger.info("what was stuck has gone on, after %.1f s", now - seen.since)

    def _tell(self, run: Run, age_s: float) -> None:
        stack = describe(run.frames(), self._directory)
        message = "the model has been at one request for %.1f s, on %s: it is taken to be stuck\n%s"
        # With the request's id, if it has one. Its context is entered by whatever is stuck.
        context = Context() if run.context is None else run.context.copy()
        context.run(_logger.error, message, age_s, run.place, stack)


def describe(frames: Frames, directory: str) -> str:
    """A stack for the log: the part from the first frame in `directory` on, and then all of it."""
    stack = traceback.StackSummary.extract(iter(frames))
    prefix = directory.rstrip(os.sep) + os.sep
    first = next((number for number, frame in enumerate(stack) if frame.filename.startswith(prefix)), len(stack))
    own = "".join(traceback.format_list(stack[first:])) or "  (none of its frames)\n"
    return f"In the model's code:\n{own}All of the stack:\n{''.join(traceback.format_list(stack))}"
