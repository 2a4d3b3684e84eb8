"""How our server begins and ends beside Truss's: while it loads, by a signal, with a model that is wrong."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.process import serving
from tests.truss.cases import WRONG
from tests.truss.compare import parsed
from tests.truss.lives import SIGNALS, ended_by, while_loading, wrong_model
from tests.truss.record import load_answers

RECORDED: Final[dict[str, Any]] = load_answers()["lives"]


@contextlib.contextmanager
def start(
    model: Path, environment: dict[str, str], *flags: str
) -> Iterator[tuple[int, subprocess.Popen[bytes], Callable[[], str]]]:
    """Our server, as `lives.Start` has it."""
    with serving(model, *flags, env=environment, wait_ready=False) as server:
        yield server.port, server.process, server.read_log


def test_while_it_loads_the_answers_are_the_same() -> None:
    ours = while_loading(start)
    assert {name: parsed(answer) for name, answer in ours.items()} == {
        name: parsed(answer) for name, answer in RECORDED["loading"].items()
    }


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_lets_what_is_in_flight_finish(name: str) -> None:
    """Then the exit status is 0; Truss's server raises the signal again and is killed by it."""
    ours, truss = ended_by(start, name), RECORDED["signals"][name]
    assert parsed(ours["in flight"]) == parsed(truss["in flight"])
    assert (ours["exit"], truss["exit"]) == (0, {"SIGTERM": -15, "SIGINT": -2}[name])


@pytest.mark.parametrize("name", [name for name in WRONG if "exit" in RECORDED["wrong"][name]])
def test_a_model_that_is_wrong_ends_the_process_for_the_same_reason(name: str) -> None:
    """With exit status 1 (Truss: 0, as with the switch); we say more, and what to write instead."""
    ours, truss = wrong_model(start, name), RECORDED["wrong"][name]
    assert (ours["exit"], truss["exit"]) == (1, 0)
    assert ours["error"] == truss["error"]
    if ours["error"] != "ModelDefinitionError":
        assert ours["words"] == truss["words"].replace("'is_no_class'", "'model.is_no_class'")


def test_a_method_that_cannot_be_called_by_position_is_refused_at_once() -> None:
    """Truss loads it, and answers every request with 500."""
    assert RECORDED["wrong"]["keyword_only"] == {"is_loaded": True}
    ours = wrong_model(start, "keyword_only")
    assert (ours["exit"], ours["error"]) == (1, "ModelDefinitionError")
