"""What a soak finds fault with, and that its traffic checks what it is answered."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import soak
from bench.load import traffic
from bench.load.alone import MODELS
from bench.load.traffic import SCENES, SCENES_OF_30, Traffic, WrongError
from bench.soak import FLAT_KB, complaints_of, growth_of, unexplained
from tests.support.footprint import Footprint
from tests.support.process import Server, serving, write_model

GOOD = json.dumps({"levelname": "INFO", "message": "ready"})
ASKED = json.dumps({"levelname": "ERROR", "message": "x", "exc_info": "Traceback\nValueError: failing as asked"})
BEFORE = Footprint(cpu_s=1.0, waited_s=0.0, memory_kb=50_000, peak_kb=60_000, descriptors=12, threads=6)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(MODELS / "soak") as running:
        yield running


@pytest.fixture
def liar() -> Iterator[int]:
    """The port of a server that answers every request alike, and wrongly."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:

        def run() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with peer, contextlib.suppress(OSError):
                    peer.recv(1 << 23)
                    peer.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")

        thread = threading.Thread(target=run)
        thread.start()
        port: int = listening.getsockname()[1]
        yield port
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"levelname": "WARNING", "message": "Executing <Handle> took 0.2 seconds"}),
        json.dumps({"levelname": "ERROR", "message": "a bug", "exc_info": "KeyError: 1"}),
        "sys:1: ResourceWarning: unclosed socket",
        "[1, 2]",
        "7",
    ],
)
def test_a_log_may_have_nothing_but_information_and_what_was_asked_for(line: str) -> None:
    assert complaints_of(f"{GOOD}\n{ASKED}\n\n{GOOD}\n") == []
    assert complaints_of(f"{GOOD}\n{line}\n{ASKED}\n") == [line]


def test_slow_callbacks_are_forgiven_while_others_had_the_core() -> None:
    slow = json.dumps({"levelname": "WARNING", "message": "Executing <Handle f() at x.py:1> took 0.150 seconds"})
    assert unexplained([slow, "other", slow], waited_s=0.31) == ["other"]
    assert unexplained([slow, "other", slow], waited_s=0.29) == [slow, "other", slow]


def test_nothing_may_grow_but_memory_a_little() -> None:
    assert growth_of(BEFORE, dataclasses.replace(BEFORE, memory_kb=BEFORE.memory_kb + FLAT_KB, threads=5)) == []
    for name, value in (("memory_kb", BEFORE.memory_kb + FLAT_KB + 1), ("threads", 7), ("descriptors", 13)):
        assert len(growth_of(BEFORE, dataclasses.replace(BEFORE, **{name: value}))) == 1


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_passes_on_the_server(name: str, server: Server) -> None:
    for seed in range(5):
        SCENES[name](server.port, random.Random(seed))


def test_each_bad_input_is_answered_as_it_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in traffic.BAD:
        monkeypatch.setattr(traffic, "BAD", [bad])
        SCENES["sends_bad_input"](server.port, random.Random(1))


@pytest.mark.parametrize("name", sorted(SCENES.keys() - {"leaves"}))
def test_every_scene_that_waits_for_an_answer_sees_that_it_is_wrong(name: str, liar: int) -> None:
    with pytest.raises((WrongError, OSError, ValueError)):
        SCENES[name](liar, random.Random(1))


def test_mistakes_are_counted_and_do_not_stop_the_others(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(port: int, chance: random.Random) -> None:
        playing.release()
        raise WrongError("as asked")

    playing = threading.Semaphore(0)
    monkeypatch.setitem(SCENES, "asks", fails)
    running = Traffic(server.port, seed=1)
    thread = threading.Thread(target=running.run, args=(60.0,))
    thread.start()
    for _ in range(traffic.MANY_MISTAKES + 1):
        assert playing.acquire(timeout=30)
    running._must_stop.set()
    thread.join()
    assert len(running.mistakes) == traffic.MANY_MISTAKES
    assert running.mistaken == running.played["asks"] > traffic.MANY_MISTAKES
    assert running.mistakes[0] == "asks: WrongError('as asked')"


LIES = """
import logging

class Model:
    def predict(self, wish):
        logging.warning("odd")
        return {"echo": wish if wish == {"what": "echo"} else "a lie"}
"""


def test_a_server_that_lies_and_complains_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "soak", LIES)
    monkeypatch.setattr(soak, "MODELS", tmp_path)
    monkeypatch.setattr(soak, "REST_S", 0.0)
    monkeypatch.setattr(traffic, "SCENES_OF_30", {"asks": 30})
    monkeypatch.setattr("bench.soak.os.sched_setaffinity", lambda *_: None)
    monkeypatch.setattr("bench.server.CACHE", tmp_path)
    assert soak.main(["--minutes", "0.01"]) == 1
    told = capsys.readouterr().out
    assert "WRONG: asks: WrongError" in told
    assert "LOGGED: " in told


def test_every_scene_has_its_share() -> None:
    assert SCENES.keys() == SCENES_OF_30.keys()
    assert sum(SCENES_OF_30.values()) == 30
    assert (Path(traffic.__file__).parent.parent / "models" / "soak" / "config.yaml").exists()
