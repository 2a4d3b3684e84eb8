"""A long run from a seed: streams one after the other, each judged, until time and number are up or one fails.

The streams are `streams.py`'s and `live_streams.py`'s. Called by `__main__.py` in each of its processes, and a test.
"""

from __future__ import annotations

import faulthandler
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import corpus
from tests.fuzz.choices import Seeded
from tests.fuzz.judge import judge
from tests.fuzz.live import LiveServer
from tests.fuzz.live_streams import fuzz_live
from tests.fuzz.play import World
from tests.fuzz.resources import Resources, measure
from tests.fuzz.scenario import Scenario, redress, to_line
from tests.fuzz.shrinking import shrink
from tests.fuzz.streams import make_any

DRESSINGS: Final = (
    4  # of each stream's bytes, with cuts and timing of their own: making the bytes costs as much as two
)
LIVE_ONE_IN: Final = 8  # turns: they cost as much as the four
H11_ONE_IN: Final = 3  # turns
# By then caches are full and the heap has its shape: a tenth of a long run.
WARM_UP_STREAMS: Final = 50_000
REPORT_S: Final = 30.0
# A stream takes milliseconds; one that takes this long has hung, and where is written to stderr.
HANG_S: Final = 120.0
CHECK_EVERY: Final = 500  # turns: a quarter of a second
SHOWN: Final = 3_000  # characters of a failure: content may be long


class Failure(NamedTuple):
    """name: what `--only` takes. scenario: shrunk; None if it failed at a live server, from which nothing is kept."""

    name: str
    error: str
    scenario: Scenario | None


class Result(NamedTuple):
    """before: after the warm-up if there was time for it (is_warm), else at the start."""

    streams: int
    seconds: float
    is_warm: bool
    before: Resources
    after: Resources
    failure: Failure | None


class Campaign:
    """One process's share. To be closed.

    prefix: seed and number of the process, which the names of its turns begin with. streams: judged so far.
    """

    def __init__(self, prefix: str, say: Callable[[str], None] = print) -> None:
        self._prefix = prefix
        self._say = say
        self.streams = 0
        self._corpus = corpus.read_streams()
        self._directory = tempfile.TemporaryDirectory()
        self._world = World()
        self._live = LiveServer(Path(self._directory.name))

    def close(self) -> None:
        self._world.close()
        self._live.close()
        self._directory.cleanup()

    def run(self, seconds: float, streams: int, warm_up: int = WARM_UP_STREAMS, stop: Path | None = None) -> Result:
        """Until both `seconds` have passed and `streams` have been judged, or a turn fails, or `stop` is there."""
        began = reported = time.monotonic()
        before = self.measure()
        self._say(f"{self._prefix}: at the start {before}")
        failure = None
        turn = 0
        is_warm = False
        while failure is None:
            if turn % CHECK_EVERY == 0:
                faulthandler.dump_traceback_later(HANG_S, exit=True)
                elapsed = time.monotonic() - began
                if (elapsed >= seconds and self.streams >= streams) or (stop is not None and stop.exists()):
                    break
                if time.monotonic() - reported > REPORT_S:
                    reported = time.monotonic()
                    rate = self.streams / elapsed
                    self._say(f"{self._prefix}: {self.streams:,} streams, {rate:,.0f}/s, {self.measure()}")
            failure = self.run_one(turn)
            turn += 1
            if not is_warm and self.streams >= warm_up:
                is_warm = True
                before = self.measure()
                self._say(f"{self._prefix}: warm {before}")
        faulthandler.cancel_dump_traceback_later()
        return Result(self.streams, time.monotonic() - began, is_warm, before, self.measure(), failure)

    def measure(self) -> Resources:
        return measure(self._live.loop)

    def run_one(self, turn: int) -> Failure | None:
        """Judge the streams of that turn; its choices come from its name alone."""
        name = f"{self._prefix}:{turn}"
        choices = Seeded(name)
        if turn % LIVE_ONE_IN == LIVE_ONE_IN - 1:
            self.streams += 1
            error = _error_of(lambda: fuzz_live(self._live, choices))
            return None if error is None else Failure(name, repr(error), None)
        scenario = make_any(choices, self._corpus)
        scenarios = [scenario, *(redress(choices, scenario) for _ in range(DRESSINGS - 1))]
        self.streams += DRESSINGS
        error = _error_of(lambda: judge(self._world, *scenarios, asks_h11=turn % H11_ONE_IN == 0))
        if error is None:
            return None
        return Failure(name, repr(error), shrink_find(getattr(error, "scenario", scenario)))


def run_share(prefix: str, seconds: float, streams: int, stop: Path) -> Result:
    """One process's part of a long run, told of on stdout. stop: made when it fails, so that the others end too."""
    campaign = Campaign(prefix, functools.partial(print, flush=True))
    try:
        result = campaign.run(seconds, streams, stop=stop)
    finally:
        campaign.close()
    if result.failure is not None:
        stop.touch()
    return result


def shrink_find(scenario: Scenario) -> Scenario:
    """`scenario`, smaller if it fails in a fresh world too."""

    def fails(smaller: Scenario) -> bool:
        world = World()
        try:
            return _error_of(lambda: judge(world, smaller)) is not None
        finally:
            world.close()

    return shrink(scenario, fails) if fails(scenario) else scenario


def _error_of(judged: Callable[[], object]) -> Exception | None:
    try:
        judged()
    except Exception as error:  # noqa: BLE001 - whatever is raised is what is looked for
        return error
    return None


def describe(failure: Failure) -> str:
    """All that is needed to play it again."""
    lines = [f"FAILED {failure.name}: {failure.error[:SHOWN]}", f"again: python -m tests.fuzz --only {failure.name}"]
    if failure.scenario is not None:
        lines.append(f"shrunk: {to_line(failure.scenario)[:SHOWN]}")
    return "\n".join(lines)
