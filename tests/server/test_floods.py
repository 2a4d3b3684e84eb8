"""Storms of connections, messages of far too many parts: all get what they deserve, and nobody beside them waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.crowd import Crowd, crowd_at, statuses
from tests.support.floods import FLOODS
from tests.support.footprint import footprint_of, settled
from tests.support.neighbour import FOR_EVER, neighbour_of
from tests.support.process import command, ending, environment
from tests.support.siege import WORST_S, Siege, siege
from tests.support.starvation import MODEL, post

LIMITED = 200  # descriptors: 16 are the server's own, 64 it spares


@pytest.fixture(scope="module")
def besieged() -> Iterator[Siege]:
    with siege() as it:
        yield it


@pytest.mark.parametrize("name", FLOODS)
def test_nobody_drowns_beside(besieged: Siege, name: str) -> None:
    besieged.endure(FLOODS[name], idles=False)


def come_and_go(crowd: Crowd, count: int) -> None:
    """All ask at once, and each leaves when it has its answer: so all get theirs, however few there is room for."""
    waiting = crowd.join(count, post(b"1"))
    while waiting:
        crowd.hear(waiting[:1], lambda peer: peer.status > 0)  # they are accepted in the order in which they came
        assert statuses(waiting[:1]) == {200: 1}
        crowd.leave([waiting.pop(0)])


def test_clients_for_whom_there_is_no_descriptor_wait_and_are_served_when_there_is() -> None:
    limited = [sys.executable, "-c", LIMIT, str(LIMITED)]
    process = subprocess.Popen(
        [*limited, *command(MODEL, "--port", "0", "--concurrency", "1000")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with ending(process) as server:
        server.wait_for_log("ready; the model loaded")
        with neighbour_of(server.port, FOR_EVER) as neighbour, crowd_at(server.port) as crowd:
            before = footprint_of(process.pid)
            come_and_go(crowd, 3 * LIMITED)
            idle = crowd.join(3 * LIMITED)
            server.wait_for_log("file descriptors are nearly used up")
            quiet = footprint_of(process.pid)
            assert before.descriptors + 50 < quiet.descriptors < LIMITED
            neighbour.report()
            crowd.leave(idle)
            assert statuses([crowd.join(1, post(b"1"))[0]]) == {0: 1}
            crowd.hear(crowd.peers, lambda peer: peer.status > 0)
            report = neighbour.report()
            assert (report.mistakes, statuses(crowd.peers)) == ([], {200: 1})
            assert report.worst_s < WORST_S
            crowd.leave(crowd.peers)
            assert settled(process.pid, before).descriptors <= before.descriptors
        assert server.stop() == 0
    assert server.log.count("nearly used up") == 1
    assert "Traceback" not in server.log


LIMIT = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""
