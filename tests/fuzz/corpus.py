"""The corpus: scenarios that once found a bug, and those that together reach most of the code. One a line, as text.

`finds.jsonl` is for ever; `reached.jsonl` is what the coverage-guided run last left. Read by every driver.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.fuzz.scenario import Scenario, from_line, to_line

DIRECTORY: Final = Path(__file__).parent / "corpus"
FINDS: Final = DIRECTORY / "finds.jsonl"
REACHED: Final = DIRECTORY / "reached.jsonl"


def read(*files: Path) -> list[Scenario]:
    """What is in `files`; a file that is not there is empty."""
    return [from_line(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def write(file: Path, scenarios: Iterable[Scenario]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(sorted(f"{to_line(scenario)}\n" for scenario in scenarios)))


def add(file: Path, scenario: Scenario) -> None:
    """Keep `scenario`, unless it is there."""
    scenarios = read(file)
    if scenario not in scenarios:
        write(file, [*scenarios, scenario])


def read_streams() -> list[bytes]:
    """The bytes of all of it, for mutation; at least one stream."""
    return [scenario.raw for scenario in read(FINDS, REACHED)] or [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
