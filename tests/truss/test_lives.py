"""How our server begins and ends beside Truss's: while it loads, by a signal, with a model that is wrong."""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
    model: Path, environment: Mapping[str, str], flags: Sequence[str] = ()
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


# Where we say it in words of our own: what of Truss's is not in them.
OTHER_WORDS: Final = {
    "is_no_class": "no class Model; set model_class_name",
    "needs_more": "`Model.__init__` requires `more`, which is not known here",
}

# The user's own code raised; all others are mistakes that are seen in the directory.
RAISED: Final = frozenset({"fails_to_construct", "fails_to_import", "fails_to_load"})


@pytest.fixture(scope="module")
def ended() -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """What becomes of each wrong model; two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(wrong_model, start, name) for name in WRONG}


@pytest.mark.parametrize("name", [name for name in WRONG if "exit" in RECORDED["wrong"][name]])
def test_a_model_that_is_wrong_ends_the_process_for_the_same_reason(
    ended: dict[str, Future[dict[str, Any]]], name: str
) -> None:
    """Truss's server ends with exit status 0; we say what to write instead."""
    ours, truss = ended[name].result(), RECORDED["wrong"][name]
    assert (ours["exit"], truss["exit"]) == (1 if name in RAISED else 2, 0)
    words = truss["error"].rpartition("errors.ModelDefinitionError: ")[2]
    assert OTHER_WORDS.get(name, re.split(r"[.:]( |$)|`,? *or|  ", words)[0]) in ours["error"]


@pytest.mark.parametrize("name", ["fails_to_load", "no_method"])
def test_with_the_switch_it_ends_as_truss_s(name: str) -> None:
    ours = wrong_model(functools.partial(start, flags=("--truss-quirks", "exit-zero")), name)
    assert ours["exit"] == RECORDED["wrong"][name]["exit"]


def test_a_method_that_cannot_be_called_by_position_is_refused_at_once(
    ended: dict[str, Future[dict[str, Any]]],
) -> None:
    """Truss loads it, and answers every request with 500."""
    assert RECORDED["wrong"]["keyword_only"] == {"is_loaded": True}
    ours = ended["keyword_only"].result()
    assert (ours["exit"], "called by position" in ours["error"]) == (2, True)
