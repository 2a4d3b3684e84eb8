"""Certificates made with openssl, and a TLS client without a socket, each step of which a test can take by itself."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from fastserve.config import Config
from fastserve.http11.certificates import Certificates
from fastserve.http11.connection import Connection
from fastserve.http11.tls_handshake import Handshake
from tests.support.fakes import FakeTransport, Peer
from tests.support.process import PATIENCE_S, Server


class Certificate(NamedTuple):
    """Paths of both."""

    certificate: Path
    key: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return "--ssl-certfile", str(self.certificate), "--ssl-keyfile", str(self.key)

    @property
    def config(self) -> Config:
        return Config(ssl_certfile=str(self.certificate), ssl_keyfile=str(self.key))

    def trusting(self) -> ssl.SSLContext:
        """A client that takes this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_certificate(directory: Path, name: str = "server", password: str = "") -> Certificate:
    """One that is good for 127.0.0.1, with an encrypted key if there is a password."""
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate)]
    command += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made


@functools.cache
def shared_certificate() -> Certificate:
    """The one of all tests that need no other."""
    return make_certificate(Path(tempfile.mkdtemp(prefix="fastserve-tls-")))


class TlsClient:
    """The client's side of TLS: bytes of TCP in and out. received: what it has decrypted; has_ended: by an alert."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self.is_open = False
        self.received = b""
        self.has_ended = False

    def begin(self) -> bytes:
        """The first bytes of the handshake."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def feed(self, came: bytes) -> bytes:
        """Take what the server has sent. Returns what it is answered, which is only the handshake's."""
        self._incoming.write(came)
        try:
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while piece := self.tls.read(65536):
                self.received += piece
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the same, once this side has ended too
            self.has_ended = True
        return self._outgoing.read()

    def encrypt(self, plain: bytes) -> bytes:
        while plain:
            plain = plain[self.tls.write(plain) :]
        return self._outgoing.read()

    def end(self) -> bytes:
        """The closure alert: this side sends no more."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self._outgoing.read()


class TlsPeer(Peer):
    """support.fakes.Peer with TLS between: what is sent is encrypted, what is answered decrypted.

    tcp: its transport, which sees encrypted bytes alone.
    """

    def __init__(self, config: Config | None = None, *, answers_at_once: bool = True, shakes: bool = True) -> None:
        super().__init__(config, answers_at_once=answers_at_once)  # its own connection is given up
        self.listener.connections.clear()
        self.tcp = self.transport = FakeTransport()
        self.tcp.on_resume = lambda: self.loop.call_soon(self._deliver)
        self.certificates = Certificates(shared_certificate().config)
        self.tcp.protocol = Handshake(self.listener, self.certificates, self._make_connection)
        self.tcp.protocol.connection_made(cast(asyncio.Transport, self.tcp))
        self.client = TlsClient(shared_certificate().trusting())
        self._taken = 0
        if shakes:
            self.send_raw(self.client.begin())
            assert self.client.is_open

    @property
    def server(self) -> Any:
        """What TCP's transport hands its bytes to."""
        return self.tcp.protocol

    def _make_connection(self) -> Connection:
        self.connection = Connection(self.listener)
        return self.connection

    def send(self, *pieces: bytes) -> bytes:
        """Encrypt and send, one record or more each. Returns all that was answered."""
        for piece in pieces:
            self.send_raw(self.client.encrypt(piece))
        return self.client.received

    def send_raw(self, *pieces: bytes) -> None:
        """Send by TCP in one read each, and have the client take what comes back."""
        for piece in pieces:
            super().send(piece)
            self.take()

    def take(self) -> None:
        """Have the client take what the server has sent, and the server what that is answered."""
        while self._taken < len(self.tcp.sent):
            came, self._taken = self.tcp.sent[self._taken :], len(self.tcp.sent)
            answer = self.client.feed(came)
            if answer:
                super().send(answer)

    def end(self) -> None:
        super().end()
        self.take()


def connect_tls(server: Server, trusted: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection to a real server."""
    return trusted.wrap_socket(server.connect(), server_hostname="127.0.0.1")


@contextlib.contextmanager
def stepwise(server: Server, trusted: ssl.SSLContext) -> Iterator[tuple[socket.socket, TlsClient]]:
    """The same, in two parts: the socket, and who encrypts for it. The handshake is over."""
    client = TlsClient(trusted)
    with server.connect(PATIENCE_S) as tcp:
        tcp.sendall(client.begin())
        while not client.is_open:
            tcp.sendall(client.feed(tcp.recv(65536)))
        yield tcp, client
