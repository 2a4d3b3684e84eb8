"""What one run of a connection is: the bytes a peer sends, how they are cut, how it reads, is answered, and ends.

Plain values and their text form, one line of JSON. Made by generators, played by `play.py`, kept by `corpus.py`.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import json
import re
from typing import Any, Final, NamedTuple

from tests.fuzz.choices import Choices, one_in

# The bit of a manner that says: not at once, but in later turns.
LATER: Final = 0x80
# Pieces of one stream: more say nothing new, and byte by byte is a test of its own.
MAX_CUTS: Final = 8
# Where a client mostly lets a read begin.
REQUEST_LINE: Final = re.compile(rb"[A-Z]{3,7} /[^ ]{0,40} HTTP/1")


class Ending(enum.IntEnum):
    """What the peer, or the server, does when all bytes have been sent."""

    PROBE = enum.auto()  # the peer sends one more request
    WAIT = enum.auto()  # the peer stays and says nothing, until the server ends the connection
    HALF_CLOSE = enum.auto()
    RESET = enum.auto()
    DRAIN = enum.auto()


class Expected(NamedTuple):
    """A request that must reach the route."""

    method: bytes
    target: bytes
    content: bytes


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One connection, played once.

    cuts: positions in `raw` between two reads, ascending.
    manners: how the requests are answered, one byte each, from the first again when they are used up (answering.py).
    tempo: what happens before each read, in the same way (play.py).
    is_tight: the server has low limits.
    expected: every request of `raw` that is to be answered, if that is known; then nothing is to be refused.
    stays_open: after them the connection is good for another request. Only if `expected` is known.
    """

    raw: bytes
    cuts: tuple[int, ...] = ()
    manners: bytes = b""
    tempo: bytes = b""
    ending: Ending = Ending.PROBE
    is_tight: bool = False
    expected: tuple[Expected, ...] | None = None
    stays_open: bool = False

    @property
    def pieces(self) -> list[bytes]:
        """`raw` in the reads it comes in, none of them empty."""
        edges = [0, *self.cuts, len(self.raw)]
        return [self.raw[a:b] for a, b in itertools.pairwise(edges) if a < b]

    def plainest(self) -> Scenario:
        """The same in one read, with each answer given at once to a peer that reads: what it must amount to."""
        return dataclasses.replace(
            self, cuts=(), tempo=b"", manners=bytes(manner & ~LATER for manner in self.manners)
        )


def dress(
    choices: Choices, raw: bytes, expected: tuple[Expected, ...] | None = None, *, stays_open: bool = False
) -> Scenario:
    """A scenario for `raw`: cuts, timing and the rest are chosen."""
    return Scenario(
        raw,
        _make_cuts(choices, raw),
        manners=choices.octets(4),
        tempo=choices.octets(4),
        ending=Ending(1 + choices.below(len(Ending))),
        is_tight=expected is None and choices.below(4) == 3,
        expected=expected,
        stays_open=stays_open,
    )


def redress(choices: Choices, scenario: Scenario) -> Scenario:
    """`scenario` with other cuts and another timing; what it must amount to is the same."""
    cuts = _make_cuts(choices, scenario.raw)
    later = choices.below(4)
    manners = bytes(manner ^ LATER * (later >> number % 2 & 1) for number, manner in enumerate(scenario.manners))
    return dataclasses.replace(scenario, cuts=cuts, manners=manners, tempo=choices.octets(4))


def _make_cuts(choices: Choices, raw: bytes) -> tuple[int, ...]:
    if one_in(choices, 3):
        return tuple(found.start() for found in itertools.islice(REQUEST_LINE.finditer(raw), MAX_CUTS))
    return tuple(sorted(choices.below(len(raw) + 1) for _ in range(choices.below(MAX_CUTS + 1))))


def to_line(scenario: Scenario) -> str:
    """One line of JSON; bytes as the characters of the same numbers."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(scenario):
        value = getattr(scenario, field.name)
        if value != field.default:
            values[field.name] = value
    return json.dumps(values, default=lambda octets: octets.decode("latin-1"))


def from_line(line: str) -> Scenario:
    values = json.loads(line)
    for name in ("raw", "manners", "tempo"):
        values[name] = values.get(name, "").encode("latin-1")
    values["cuts"] = tuple(values.get("cuts", ()))
    values["ending"] = Ending(values.get("ending", Ending.PROBE))
    if values.get("expected") is not None:
        values["expected"] = tuple(Expected(*(part.encode("latin-1") for part in e)) for e in values["expected"])
    return Scenario(**values)
