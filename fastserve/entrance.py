"""Who may come in, and by which door: an address or a Unix socket, TLS, API keys, CORS, connections for each client.

Each is a file of its own that is imported if its option is set, and costs nothing otherwise.
Made by `server.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fastserve.config import KEYS_VARIABLE, OPTIONS, Config
from fastserve.errors import SetupError
from fastserve.http11.acceptor import open_sockets, url_of
from fastserve.http11.listener import Listener
from fastserve.messages import Head, Route
from fastserve.metrics import Metrics

if TYPE_CHECKING:
    from fastserve.endpoints.keys import ApiKeys
    from fastserve.http11.certificates import Certificates
    from fastserve.http11.unix_socket import UnixSocket

Find = Callable[[Head], Route]

_logger: Final = logging.getLogger("fastserve")


class Entrance:
    """The doors of one server.

    is_reloadable: there are files to be read anew on SIGHUP. certificates: None without TLS.
    """

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """Raises SetupError if keys or a certificate are not what they must be."""
        self._config = config
        self._keys = _read_keys(config, environ)
        self._unix: UnixSocket | None = None
        self.certificates = _read_certificates(config)
        self.is_reloadable = bool(config.api_key_file) or self.certificates is not None
        self._readers: list[_Reader] | None = None  # of what is reloadable, from the first time on

    def make_listener(self, loop: asyncio.AbstractEventLoop, find: Find, metrics: Metrics) -> Listener:
        """The listener whose requests are let in. find: finds the routes of those."""
        config, meaningful, refusal_fields = self._config, frozenset[bytes](), b""
        if self._keys is not None:
            from fastserve.endpoints.keys import KEY_FIELDS, Guard

            find, meaningful = Guard(self._keys, find, metrics).route, KEY_FIELDS
        if config.cors_origins:  # outside of the guard: browsers ask without a key, and a 401 is to be read, too
            from fastserve.endpoints.cors import CORS_FIELDS, Sharing

            sharing = Sharing(config.cors_origins, find, metrics)
            find, meaningful, refusal_fields = sharing.route, meaningful | CORS_FIELDS, sharing.refusal_fields
        listener = _listener_type(config)(loop, config, find, metrics)
        listener.meaningful |= meaningful
        listener.refusal_fields = refusal_fields
        return listener

    def make_factory(self, listener: Listener, make_connection: Callable[[], Any]) -> Callable[[], Any]:
        """What makes the protocol of each connection that is accepted."""
        certificates = self.certificates
        if certificates is None:
            return make_connection
        from fastserve.http11.tls_handshake import FAILURES, Handshake

        listener.metrics.failed_handshakes.update(dict.fromkeys(FAILURES, 0))  # there from the start
        return lambda: Handshake(listener, certificates, make_connection)

    def open(self) -> list[socket.socket]:
        """The listening sockets. Raises SetupError if one cannot be had."""
        config = self._config
        if not config.uds:
            return open_sockets(config.host, config.port)
        from fastserve.http11.unix_socket import UnixSocket

        self._unix = UnixSocket(config.uds, int(config.uds_mode, 8))
        return [self._unix.listening]

    def name(self, listening: socket.socket) -> str:
        """Where to find the server, for people."""
        scheme = "http" if self.certificates is None else "https"
        if self._unix is not None:
            return f"unix:{self._unix.path}"
        return url_of(listening, scheme)

    def reload(self, listener: Listener) -> None:
        """Read keys and certificate anew. What is bad changes nothing but the log; what is open stays open."""
        if self._readers is None:
            self._readers = self._make_readers(listener)
        for reader in self._readers:
            reader.read()

    def _make_readers(self, listener: Listener) -> list[_Reader]:
        readers, keys = [], self._keys
        if keys is not None and self._config.api_key_file:

            def use(are_taken: bool) -> None:
                if are_taken:
                    listener.reroute()  # what is remembered of a head says whether its key is good
                    keys.log_reload()

            readers.append(_Reader(listener.loop, keys.reload, use))
        if self.certificates is not None:
            readers.append(_Reader(listener.loop, self.certificates.reload, lambda _: None))
        return readers

    def close(self) -> None:
        """Nobody is accepted any more: give the place in the file system back."""
        if self._unix is not None:
            self._unix.remove()


class _Reader:
    """Reads on a thread: a file system that hangs must hold neither the loop nor what other files there are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, read: Callable[[], Any], use: Callable[[Any], None]) -> None:
        """use: called on the loop with what `read` has returned."""
        self._loop = loop
        self._read = read
        self._use = use
        self._is_reading = self._is_asked_again = False

    def read(self) -> None:
        """Once more, if it is being read: it may have been too early to see what has changed."""
        self._is_asked_again = self._is_reading
        if not self._is_reading:
            try:
                threading.Thread(target=self._run, name="fastserve-reload", daemon=True).start()
            except RuntimeError as error:
                _logger.error("nothing is read anew: %s", error)
            else:
                self._is_reading = True

    def _run(self) -> None:
        result = None
        try:
            result = self._read()
        except Exception:
            _logger.exception("a file could not be read; this is a bug of fastserve")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._go_on, result)

    def _go_on(self, result: Any) -> None:
        self._is_reading = False
        self._use(result)
        if self._is_asked_again:
            self.read()


def _read_keys(config: Config, environ: Mapping[str, str]) -> ApiKeys | None:
    for variable in (KEYS_VARIABLE, OPTIONS["api_key_file"].variable):
        if environ.get(variable) == "":  # meant to hold something: a server without keys would be open to all
            raise SetupError(f"{variable} is set and empty: give it what it is for, or unset it")
    said = environ.get(KEYS_VARIABLE, "")
    if not said and not config.api_key_file:
        return None
    from fastserve.endpoints.keys import ApiKeys

    return ApiKeys(config.api_key_file, said)


def _read_certificates(config: Config) -> Certificates | None:
    if not config.ssl_certfile:
        return None
    from fastserve.http11.certificates import Certificates

    return Certificates(config)


def _listener_type(config: Config) -> type[Listener]:
    if not config.max_connections_per_client:
        return Listener
    from fastserve.http11.clients import LimitedListener

    return LimitedListener
