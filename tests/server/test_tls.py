"""TLS end to end: the real command, Python's and OpenSSL's clients, renewed certificates, and what is no TLS."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.process import PATIENCE_S, Server, run_to_end, serving, write_model
from tests.support.tls import Certificate, connect_tls, make_certificate, shared_certificate, stepwise

MODEL = """
import fastserve
class Model:
    def predict(self, x, request: fastserve.Request):
        if x == "url":
            return request.url
        if isinstance(x, str) and x.startswith("/"):
            open(x).read()
        return x
    def chat_completions(self, x):
        for number in range(x["chunks"]):
            yield f"data: {number}\\n\\n"
        if x.get("fails"):
            raise ValueError("midway")
"""
ECHO = Path(__file__).parents[2] / "bench" / "models" / "echo"
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(write_model(tmp_path_factory.mktemp("tls"), MODEL), *shared_certificate().flags) as server:
        yield server
        traced = [line for line in server.read_log().splitlines() if "Traceback" in line]
        assert all("ValueError: midway" in line for line in traced)


def connected(server: Server, made: Certificate | None = None) -> http.client.HTTPSConnection:
    trusted = (made or shared_certificate()).trusting()
    return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=PATIENCE_S, context=trusted)


def ask(connection: http.client.HTTPConnection, path: str, payload: object) -> bytes:
    connection.request("POST", path, json.dumps(payload))
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


def receive_all(peer: socket.socket) -> bytes:
    received = b""
    while piece := peer.recv(65536):
        received += piece
    return received


def test_requests_follow_one_another_and_know_that_they_are_encrypted(server: Server) -> None:
    connection = connected(server)
    for payload in (1, [None], {"a": "b"}):
        assert json.loads(ask(connection, "/predict", payload)) == payload
    assert json.loads(ask(connection, "/predict", "url")) == f"https://127.0.0.1:{server.port}/predict"
    connection.close()


def test_the_address_that_is_told_begins_with_https(server: Server) -> None:
    assert f"listening on https://127.0.0.1:{server.port}" in server.log


@pytest.mark.parametrize(("version", "is_spoken"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_tls_is_spoken_from_1_2_on(version: str, is_spoken: bool, server: Server) -> None:
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", version, "-quiet", "-ign_eof"]
    if not is_spoken:
        client += ["-cipher", "ALL:@SECLEVEL=0"]
    request = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    done = subprocess.run(client, input=request, capture_output=True, timeout=PATIENCE_S)
    assert done.stdout.startswith(b"HTTP/1.1 200") is is_spoken
    assert (b"alert protocol version" in done.stderr) is not is_spoken


@pytest.mark.parametrize("size", [100, 5000, 200_000])
def test_a_client_that_wants_small_records_gets_all_of_it(size: int, server: Server) -> None:
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-quiet", "-ign_eof"]
    client += ["-maxfraglen", "512"]
    content = json.dumps("x" * size).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content)
    done = subprocess.run(client, input=head + content, capture_output=True, timeout=PATIENCE_S)
    assert done.stdout.partition(b"\r\n\r\n")[2] == content


def test_curl_speaks_http_1_1(server: Server) -> None:
    url = f"https://127.0.0.1:{server.port}/predict"
    certificate = str(shared_certificate().certificate)
    done = subprocess.run(["curl", "-sv", "--cacert", certificate, "-d", "[1]", url], capture_output=True, timeout=30)
    assert done.stdout == b"[1]"
    assert done.returncode == 0


def test_large_content_comes_and_goes_whole(server: Server) -> None:
    payload = os.urandom(6_000_000).hex()
    connection = connected(server)
    assert json.loads(ask(connection, "/predict", payload)) == payload
    assert ask(connection, "/predict", 1) == b"1"
    connection.close()


def test_a_reader_with_little_room_gets_all_of_it(server: Server) -> None:
    payload = "x" * 8_000_000
    with socket.socket() as tcp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tcp.settimeout(PATIENCE_S)
        tcp.connect(("127.0.0.1", server.port))
        with shared_certificate().trusting().wrap_socket(tcp, server_hostname="127.0.0.1") as peer:
            content = json.dumps(payload).encode()
            fields = b"Host: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content)
            peer.sendall(b"POST /predict HTTP/1.1\r\n" + fields + content)
            assert receive_all(peer).partition(b"\r\n\r\n")[2] == content


def test_streams_are_whole_or_can_be_seen_not_to_be(server: Server) -> None:
    connection = connected(server)
    expected = b"".join(b"data: %d\n\n" % number for number in range(2000))
    assert ask(connection, "/v1/chat/completions", {"chunks": 2000}) == expected
    connection.request("POST", "/v1/chat/completions", b'{"chunks": 3, "fails": true}')
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize("ends", ["alert", "tcp", "both"])
def test_a_client_that_ends_its_own_side_gets_its_whole_answer(ends: str, tmp_path: Path, server: Server) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = json.dumps(str(fifo)).encode()
    with stepwise(server, shared_certificate().trusting()) as (tcp, client):
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
        tcp.sendall(client.encrypt(head + content))
        if ends != "tcp":
            tcp.sendall(client.end())
        if ends != "alert":
            tcp.shutdown(socket.SHUT_WR)
        fifo.write_text("")
        client.feed(receive_all(tcp))
        assert client.received.endswith(content)


def test_the_last_answer_is_followed_by_a_closure_alert(server: Server) -> None:
    with stepwise(server, shared_certificate().trusting()) as (tcp, client):
        tcp.sendall(client.encrypt(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
        client.feed(receive_all(tcp))
        assert client.received.endswith(b"true")
        assert client.has_ended


def test_clients_that_break_off_anywhere_change_nothing_for_others(server: Server) -> None:
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n" + b"x" * 5000
    for size in (0, 1, 5, 100, 10_000):
        with server.connect() as tcp:
            tcp.sendall((b"\x16\x03\x01\x01\x00" + b"\x01" * 10_000)[:size])
            reset(tcp)
        with stepwise(server, shared_certificate().trusting()) as (tcp, client):
            tcp.sendall(client.encrypt(request)[:size])
            reset(tcp)
    connection = connected(server)
    assert ask(connection, "/predict", 1) == b"1"
    connection.close()


def reset(tcp: socket.socket) -> None:
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.close()


def test_plain_http_is_told_that_tls_is_spoken(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(GET)
        received = receive_all(peer)
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"https://" in received


def test_tls_is_told_that_plain_http_is_spoken() -> None:
    with serving(ECHO) as plain:
        with pytest.raises(ssl.SSLError):
            connect_tls(plain, shared_certificate().trusting())
        assert plain.request("GET", "/livez")[0] == 200
        assert "Traceback" not in plain.read_log()


def test_a_websocket_is_encrypted_too(tmp_path: Path) -> None:
    source = "class Model:\n    async def websocket(self, ws):\n        await ws.send_text(str(ws.url))\n"
    with serving(write_model(tmp_path, source), *shared_certificate().flags) as server:
        url = f"wss://127.0.0.1:{server.port}/v1/websocket"
        with connect(url, ssl=shared_certificate().trusting(), open_timeout=PATIENCE_S) as client:
            assert client.recv(PATIENCE_S) == url


def shown_to(peer: ssl.SSLSocket) -> bytes:
    shown = peer.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def test_a_renewed_certificate_is_shown_after_sighup_and_no_connection_is_dropped(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    old = made.trusting()
    with serving(write_model(tmp_path / "m", MODEL), *made.flags) as server, connect_tls(server, old) as before:
        before.sendall(GET)
        assert b"true" in before.recv(65536)
        first = shown_to(before)
        new = make_certificate(tmp_path).trusting()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("the certificate is read anew")
        with connect_tls(server, new) as after:
            assert shown_to(after) != first
            second = shown_to(after)
            before.sendall(GET)
            assert b"true" in before.recv(65536)
        made.key.write_text("no key")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("not a certificate and its private key .*; the certificate from before stays")
        with connect_tls(server, new) as after:
            assert shown_to(after) == second
        before.sendall(GET)
        assert b"true" in before.recv(65536)
        assert server.stop() == 0


def test_a_drain_finishes_what_is_in_flight(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serving(write_model(tmp_path / "m", MODEL), *shared_certificate().flags) as server:
        trusted = shared_certificate().trusting()
        with connect_tls(server, trusted) as idle, connect_tls(server, trusted) as busy, server.connect() as shaking:
            idle.sendall(GET)
            assert b"true" in idle.recv(65536)
            content = json.dumps(str(fifo)).encode()
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
            busy.sendall(head + content)
            shaking.sendall(b"\x16")
            idle.sendall(GET)
            assert b"true" in idle.recv(65536)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("draining, 1 requests in flight")
            assert idle.recv(1) == b""  # by an alert: a cut would be an error
            assert shaking.recv(1) == b""
            fifo.write_text("")
            assert receive_all(busy).endswith(content)
            assert server.wait() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--ssl-certfile", "{none}"), "cannot read --ssl-certfile .*none: No such file"),
        (("--ssl-certfile", "{crt}", "--ssl-keyfile", "{none}"), "cannot read --ssl-keyfile .*none: No such file"),
        (("--ssl-certfile", "{crt}"), "not a certificate and its private key in PEM"),
        (("--ssl-certfile", "{key}", "--ssl-keyfile", "{crt}"), "not a certificate and its private key in PEM"),
        (("--ssl-certfile", "{crt}", "--ssl-keyfile", "{other}"), "the private key in .* is not that of"),
        (("--ssl-certfile", "{locked_crt}", "--ssl-keyfile", "{locked}"), "the private key is encrypted: --ssl-"),
        (
            ("--ssl-certfile", "{locked_crt}", "--ssl-keyfile", "{locked}", "--ssl-password-file", "{none}"),
            "cannot read --ssl-password-file .*none",
        ),
        (
            ("--ssl-certfile", "{locked_crt}", "--ssl-keyfile", "{locked}", "--ssl-password-file", "{crt}"),
            "the password in --ssl-password-file is not that of the private key",
        ),
        (("--ssl-keyfile", "{key}"), "--ssl-keyfile does nothing without --ssl-certfile"),
    ],
)
def test_bad_files_are_one_message_at_start(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    locked = make_certificate(tmp_path, "locked", password="open sesame")
    places = {
        "none": tmp_path / "none",
        "crt": made.certificate,
        "key": made.key,
        "other": other.key,
        "locked": locked.key,
        "locked_crt": locked.certificate,
    }
    said = [flag.format(**places) for flag in flags]
    status, errors = run_to_end(write_model(tmp_path / "m", MODEL), "--port", "0", *said)
    assert status == 2
    (line,) = errors.splitlines()
    assert re.search(words, line), line


def test_key_and_certificate_may_be_in_one_file_and_the_key_encrypted(tmp_path: Path) -> None:
    locked = make_certificate(tmp_path, "locked", password="open sesame")
    both, password = tmp_path / "both.pem", tmp_path / "password"
    both.write_text(locked.key.read_text() + locked.certificate.read_text())
    password.write_text("open sesame\n")
    flags = ("--ssl-certfile", str(both), "--ssl-password-file", str(password))
    with serving(write_model(tmp_path / "m", MODEL), *flags) as server:
        connection = connected(server, locked)
        assert ask(connection, "/predict", 1) == b"1"
        connection.close()
