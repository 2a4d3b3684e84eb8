"""What every recipient is given: about 500 inputs by name, valid to hostile, and seeded mutations of them.

Bytes alone; what a server should answer is not said here. `compare.py` sends each, followed by one more request, so
that whoever ends a message elsewhere shows it. The cases of `tests/cases` are among them, as they stand there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Final

from tests.cases.load import all_cases
from tests.differential.corpus_framing import FRAMING
from tests.differential.corpus_heads import HEADS, VALID

# Sent behind every input. Taken as a request of its own, or swallowed as content: either shows where a message ended.
BEHIND: Final = b"GET /behind HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

# For each input, so that all of them take about as long as the inputs themselves.
MUTATIONS_EACH: Final = 2
# Cases that are longer are about fastserve's own limits, which are not those of others.
MAX_CASE_BYTES: Final = 8000

# What parsers differ about: put in, put over what is there, or put twice.
_SPLINTERS: Final = (
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\xa0", b"\xff"),
    *(b":", b";", b",", b'"', b"=", b"/", b"%", b"#", b"?", b"*", b"0", b"1", b"f", b"+", b"-", b"_", b"x"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"0\r\n\r\n"),
)


def inputs() -> dict[str, bytes]:
    """Every input by its name, "family / what is odd"; mutations have the number of theirs behind a ~."""
    written = {**VALID, **HEADS, **FRAMING}
    cases = {f"case / {case.name}": case.raw for case in all_cases() if len(case.raw) <= MAX_CASE_BYTES}
    return {name: raw + BEHIND for name, raw in (*written.items(), *mutations(written), *cases.items())}


def mutations(written: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Each input with one to three bytes or pieces changed. The same ones every time, whatever else is written."""
    for name, raw in written.items():
        if len(raw) > 2000:  # those are about their length
            continue
        for number in range(1, MUTATIONS_EACH + 1):
            # Only random() is the same in every version of Python.
            draw = random.Random(f"{name} ~{number}").random
            mutated = raw
            for _ in range(1 + int(draw() * 3)):
                mutated = _mutate(mutated, draw(), draw(), draw())
            yield f"{name} ~{number}", mutated


def _mutate(raw: bytes, kind: float, where: float, what: float) -> bytes:
    """One change. Each number is in [0, 1)."""
    at = int(where * (len(raw) + 1))
    splinter = _SPLINTERS[int(what * len(_SPLINTERS))]
    if kind < 0.4:
        return raw[:at] + splinter + raw[at:]
    if kind < 0.6:
        return raw[:at] + splinter + raw[at + 1 :]
    if kind < 0.8:
        return raw[:at] + raw[at + 1 + int(what * 3) :]
    lines = raw.splitlines(keepends=True) or [b""]
    line = int(where * len(lines))
    return b"".join(lines[: line + 1] + lines[line:])
