"""A Unix socket instead of an address: permissions, who was there before, what is left behind, and HTTP over it."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.process import PATIENCE_S, Server, command, ending, environment, run_to_end, write_model

MODEL = """
import fastserve
class Model:
    def predict(self, x, request: fastserve.Request):
        return [request.client, x]
"""
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), MODEL)


@contextlib.contextmanager
def listening(model: Path, place: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server on a Unix socket; what it writes to stdout is in `place` with .out behind it."""
    with Path(f"{place}.out").open("wb") as stdout:
        process = subprocess.Popen(
            command(model, "--uds", str(place), *flags),
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        with ending(process) as server:
            server.wait_for_log(r"ready; the model loaded")
            yield server


def connect(place: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE_S)
    peer.connect(str(place))
    return peer


def predict(place: Path, payload: object) -> object:
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
    connection.sock = connect(place)
    with contextlib.closing(connection):
        connection.request("POST", "/predict", json.dumps(payload))
        return json.loads(connection.getresponse().read())


def test_requests_are_answered_and_their_client_has_no_address(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with listening(model, place, "--access-log", env={"PORT": "1"}) as server:
        assert f"listening on unix:{place}" in server.log
        assert predict(place, 1) == [None, 1]
        assert predict(place, "x" * 3_000_000) == [None, "x" * 3_000_000]
        assert server.stop() == 0
        assert not place.exists()
        assert list(tmp_path.iterdir()) == [Path(f"{place}.out")]
    assert Path(f"{place}.out").read_text().count("Handled request: POST /predict HTTP/1.1 200") == 2


@pytest.mark.parametrize(("said", "mode"), [(None, 0o660), ("600", 0o600), ("0777", 0o777)])
def test_who_may_connect_is_what_its_permissions_say(
    said: str | None, mode: int, model: Path, tmp_path: Path
) -> None:
    with listening(model, tmp_path / "s", *([] if said is None else ["--uds-mode", said])):
        found = (tmp_path / "s").stat().st_mode
    assert (stat.S_ISSOCK(found), stat.S_IMODE(found)) == (True, mode)


def test_what_a_dead_server_has_left_is_replaced(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with listening(model, place) as server:
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert stat.S_ISSOCK(place.stat().st_mode)
    with listening(model, place) as server:
        assert predict(place, 2) == [None, 2]
        assert server.stop() == 0
    assert not place.exists()


def test_the_place_of_a_living_server_is_refused(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with listening(model, place):
        status, errors = run_to_end(model, "--uds", str(place))
        assert status == 2
        (line,) = errors.splitlines()
        assert f"cannot listen on {place}: another server does; try another --uds" in line
        assert predict(place, 3) == [None, 3]


def test_a_place_where_something_else_is_is_refused_and_that_left_alone(model: Path, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("precious")
    link.symlink_to(tmp_path / "nowhere")
    for place, words in (
        (file, "it is there, and no socket"),
        (tmp_path, "it is there, and no socket"),
        (link, "it is there, and no socket"),
        (tmp_path / "none" / "s", "No such file or directory"),
        (file / "s", "Not a directory"),
        (tmp_path / ("long" * 40), "AF_UNIX path too long"),
    ):
        status, errors = run_to_end(model, "--uds", str(place))
        assert status == 2
        (line,) = errors.splitlines()
        assert f"cannot listen on {place}: {words}" in line
    assert file.read_text() == "precious"
    assert link.is_symlink()


def test_what_has_taken_its_place_is_left_there(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with listening(model, place) as server, socket.socket(socket.AF_UNIX) as other:
        place.unlink()
        other.bind(str(place))
        assert server.stop() == 0
        assert place.exists()


def test_a_failed_load_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = write_model(tmp_path / "m", "raise OSError('broken')")
    status, errors = run_to_end(broken, "--uds", str(tmp_path / "s"), env={"NUM_LOAD_RETRIES_TRUSS": "0"})
    assert status == 1
    assert "OSError: broken" in errors
    assert not (tmp_path / "s").exists()


def test_a_port_beside_it_is_refused(model: Path, tmp_path: Path) -> None:
    status, errors = run_to_end(model, "--uds", str(tmp_path / "s"), "--port", "0")
    assert status == 2
    assert "--port and --uds exclude each other" in errors


def test_it_stays_where_it_is_while_there_is_no_room(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with listening(model, place, "--max-connections", "1") as server:
        with connect(place) as only:
            only.sendall(GET)
            assert only.recv(65536).endswith(b"true")
            server.wait_for_log("as many as --max-connections allows")
            waiting = connect(place)
            waiting.sendall(GET)
            only.sendall(GET)
            assert only.recv(65536).endswith(b"true")
        assert waiting.recv(65536).endswith(b"true")
        waiting.close()
        assert stat.S_ISSOCK(place.stat().st_mode)


def test_a_client_that_ends_its_own_side_gets_its_answer_and_one_that_leaves_harms_nobody(
    model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "s"
    content = json.dumps("x" * 1_000_000).encode()
    raw = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
    with listening(model, place):
        for size in (10, 1000, len(raw)):
            with connect(place) as peer:
                peer.sendall(raw[:size])
        with connect(place) as peer:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
            received = b""
            while piece := peer.recv(65536):
                received += piece
        assert received.endswith(b"[null," + content + b"]")
