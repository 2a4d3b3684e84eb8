"""Asks every recipient what it takes each input for, and finds where fastserve's answer is another.

Reasons are in `known.txt`. Called by `test_differences.py`, and by `python -m tests.differential`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fnmatch
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.differential.front_ends import FRONT_ENDS, QUIET_S, RECORDED, front_end, taken_by_front_end
from tests.differential.origin import Origin
from tests.differential.recipients import Taken, taken_by_fastserve, taken_by_h11

KNOWN: Final = Path(__file__).parent / "known.txt"
# Inputs that a front end is asked at a time, each with an origin of its own: most of the time is HAProxy's silence.
LANES: Final = 16


class Class(enum.Enum):
    """How fastserve differs from another recipient."""

    LOOSER = "looser"  # it takes more than the other one does
    OTHER = "other"  # neither is the beginning of the other: they see different messages
    STRICTER = "stricter"  # it refuses what the other one takes


class Difference(NamedTuple):
    """One input that fastserve and `recipient` see differently."""

    name: str
    recipient: str
    kind: Class
    ours: Taken
    theirs: Taken


class Known(NamedTuple):
    """A line of `known.txt`. pattern: of names of inputs, with * for any text. recipient: or * for any of them."""

    pattern: str
    recipient: str
    kind: Class
    reason: str

    def explains(self, difference: Difference) -> bool:
        return (
            self.kind is difference.kind
            and self.recipient in ("*", difference.recipient)
            and fnmatch.fnmatchcase(difference.name, self.pattern)
        )


def classify(ours: Taken, theirs: Taken) -> Class | None:
    """How `ours` differs from `theirs`; None if it does not."""
    if ours == theirs:
        return None
    if ours[: len(theirs)] == theirs:
        return Class.LOOSER
    return Class.STRICTER if theirs[: len(ours)] == ours else Class.OTHER


def needs_reason(difference: Difference) -> bool:
    """What is looser or other always does; what is stricter only if nobody should refuse it."""
    is_valid = difference.name.startswith("valid / ") and "~" not in difference.name
    return difference.kind is not Class.STRICTER or is_valid


def read_known() -> list[Known]:
    """The lines of `known.txt`: pattern | recipient | class | reason; those with # are for the reader."""
    lines = [line for line in KNOWN.read_text().splitlines() if line and not line.startswith("#")]
    parts = [[part.strip() for part in line.split(" | ", 3)] for line in lines]
    return [Known(pattern, recipient, Class(kind), reason) for pattern, recipient, kind, reason in parts]


def find_differences(inputs: Mapping[str, bytes]) -> list[Difference]:
    """Where h11, nginx and HAProxy see something else than fastserve does."""
    differences = _differences(inputs, asyncio.run(_ask_front_ends(inputs, 1.0)))
    # A front end that had no turn for long may have been thought to be done: those are asked once more.
    doubtful = {each.name: inputs[each.name] for each in differences if needs_reason(each)}
    again = _differences(doubtful, asyncio.run(_ask_front_ends(doubtful, 5.0)))
    return [each for each in differences if each.name not in doubtful] + again


def _differences(inputs: Mapping[str, bytes], answers: dict[str, dict[str, Taken]]) -> list[Difference]:
    """answers: of the front ends, by their names and those of the inputs."""
    differences = []
    for name, raw in inputs.items():
        ours = taken_by_fastserve(raw)
        theirs = {"h11": taken_by_h11(raw), **{front: answers[front][name] for front in answers}}
        for recipient, taken in theirs.items():
            kind = classify(ours, taken)
            if kind is not None:
                differences.append(Difference(name, recipient, kind, ours, taken))
    return differences


async def _ask_front_ends(inputs: Mapping[str, bytes], patience: float) -> dict[str, dict[str, Taken]]:
    """patience: by how much longer than usual to wait for silence."""
    answers: dict[str, dict[str, Taken]] = {name: {} for name in FRONT_ENDS}
    with contextlib.ExitStack() as made:
        asked = []
        for name in FRONT_ENDS:
            origins = [made.enter_context(contextlib.closing(Origin())) for _ in range(LANES)]
            services = [(RECORDED[name], await origin.start()) for origin in origins]
            directory = Path(made.enter_context(tempfile.TemporaryDirectory()))
            ports = made.enter_context(front_end(name, directory, services))
            waiting = iter(inputs.items())
            for port, origin in zip(ports, origins, strict=True):
                asked.append(_ask(port, origin, waiting, QUIET_S[name] * patience, answers[name]))
        await asyncio.gather(*asked)
    return answers


async def _ask(
    port: int, origin: Origin, waiting: Iterator[tuple[str, bytes]], quiet_s: float, answers: dict[str, Taken]
) -> None:
    """One input after the other, as long as some wait: what reaches the origin is of this one."""
    for name, raw in waiting:
        answers[name] = await taken_by_front_end(port, origin, raw, quiet_s)
