"""What config.yaml says under `runtime.batching`: how many inputs predict is given at once, how long they wait.

There alone, and by no flag, since a model is written for it. What is done with it, `batches.py` knows. Called by
`cli.py`, so that a mistake is told before anything is loaded, and by `version.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from fastserve.errors import SetupError
from fastserve.model.directory import ModelDirectory
from fastserve.options import Parse, did_you_mean, one_of, whole_number

# With a `batch_size_of` it may count tokens, or pixels.
MAX_SIZE: Final = 1 << 30
# The usual proxies give a request up after as long.
MAX_WAIT_MS: Final = 60_000


@dataclasses.dataclass(frozen=True)
class Batching:
    """How inputs are put together.

    max_size: most inputs in a batch; with a `batch_size_of`, what their sizes come to at most.
    wait_s: how long the oldest input waits for others, in seconds; 0 takes what is there and never waits.
    isolates: when predict fails, each input is tried alone, and only those fail that fail so.
    """

    max_size: int
    # Nobody waits unless somebody says that it pays: under load a batch gathers while the one before runs.
    wait_s: float = 0.0
    # One client's mistake is not to be the answer to those who happened to come with it.
    isolates: bool = True


def read_batching(directory: ModelDirectory) -> Batching | None:
    """The settings of `directory`; None if it asks for no batches.

    Raises SetupError, with file and line, for an unknown key, a wrong value, or without `max_batch_size`.
    """
    said = directory.runtime.get("batching")
    if said is None:
        return None
    where = directory.where("runtime", "batching")
    if not isinstance(said, Mapping):
        raise SetupError(f"{where} takes a mapping such as {{max_batch_size: 32, batch_wait_ms: 5}}, not {said!r}")
    fields: dict[str, Any] = {}
    for key, value in said.items():
        name, parsed = _parse(directory, str(key), value)
        if parsed is not None:
            fields[name] = parsed
    if "max_size" not in fields:
        raise SetupError(f"{where} needs max_batch_size: the most inputs that predict may be given at once")
    return Batching(**fields)


def _parse(directory: ModelDirectory, key: str, value: object) -> tuple[str, Any]:
    """The field that `key` sets, and its value; None if nothing is said, which is the default as for other keys."""
    where = directory.where("runtime", "batching", key)
    if key not in _KEYS:
        raise SetupError(f"{where}: no such setting{did_you_mean(key, _KEYS)}")
    name, parse = _KEYS[key]
    try:
        return name, None if value is None else parse(value)
    except ValueError as error:
        raise SetupError(f"{where} {error}, not {value!r}") from None


def _milliseconds(value: object) -> float:
    """As seconds."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else -1
    if not 0 <= number <= MAX_WAIT_MS:
        raise ValueError(f"takes a number of milliseconds from 0 to {MAX_WAIT_MS}")
    return number / 1000


_on_error: Final = one_of("isolate", "fail")

_KEYS: Final[dict[str, tuple[str, Parse]]] = {
    "max_batch_size": ("max_size", whole_number(1, MAX_SIZE)),
    "batch_wait_ms": ("wait_s", _milliseconds),
    "on_batch_error": ("isolates", lambda value: _on_error(value) == "isolate"),
}
