"""Debian's nginx and HAProxy on loopback, configured in a temporary directory, and what they take bytes for.

They listen on sockets that are made here, so that no port is guessed and nothing need be waited for. Called by
`compare.py` with an origin behind them, and by `test_upstream.py` with fastserve.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.differential.origin import Origin
from tests.differential.recipients import Taken
from tests.support.process import PATIENCE_S

FRONT_ENDS: Final = ("nginx", "haproxy")

# What listens, for an origin that writes down. One request for each connection to it, which then tells where each
# message ended; content is waited for in full, so that what is forwarded is what was taken.
# `proxy_ignore_client_abort`: a client that only sends no more is answered. HAProxy's timeout is for a Content-Length
# of 2^64, which it forwards and then waits for an answer to.
RECORDED: Final = {
    "nginx": """
        server {{
            listen 127.0.0.1:{listen};
            location / {{
                proxy_pass http://127.0.0.1:{upstream};
                proxy_http_version 1.1;
                proxy_set_header Host $http_host;
                proxy_set_header Connection close;
                proxy_ignore_client_abort on;
            }}
        }}
    """,
    "haproxy": """
        listen front{socket}
            bind fd@{socket}
            option http-buffer-request
            option http-server-close
            timeout server 3s
            http-reuse never
            server origin 127.0.0.1:{upstream}
    """,
}
# How long a front end has been silent when its client says that no more comes. nginx still answers what it has;
# HAProxy may drop what is pipelined, so it has to have done all it can.
QUIET_S: Final = {"nginx": 0.0, "haproxy": 0.3}

# Everything that they write is below their directory. A worker of nginx runs as the user that started it, who may
# write there; only root has to say so. (`master_process off` would do too, but crashes with inherited sockets.)
_USER: Final = "user root;" if os.geteuid() == 0 else ""
_FRAMES: Final = {
    "nginx": """
        {user}
        daemon off;
        worker_processes 1;
        pid {directory}/nginx.pid;
        error_log {directory}/nginx.log info;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            keepalive_requests 100000;
            client_max_body_size 0;
            client_body_temp_path {directory}/content;
            proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/fastcgi;
            uwsgi_temp_path {directory}/uwsgi;
            scgi_temp_path {directory}/scgi;
            {services}
        }}
    """,
    # tune.bufsize: a whole header section of fastserve's limit.
    "haproxy": """
        global
            maxconn 1000
            nbthread 1
            tune.bufsize 65536
            log stdout format raw daemon
        defaults
            mode http
            timeout client 30s
            timeout server 30s
            timeout connect 30s
            {services}
    """,
}
_ARGUMENTS: Final = {
    "nginx": ("-e", "{directory}/nginx.log", "-p", "{directory}", "-c", "{directory}/nginx.conf"),
    "haproxy": ("-db", "-f", "{directory}/haproxy.conf"),
}


def find_binary(name: str) -> str:
    """The command of a front end. Raises AssertionError that says what to install."""
    binary = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert binary is not None, f"{name} is missing: install the package {name} (apt-get install {name})"
    return binary


@contextlib.contextmanager
def front_end(name: str, directory: Path, services: Sequence[tuple[str, int]]) -> Iterator[list[int]]:
    """Start nginx or HAProxy; end it afterwards, whatever happened. It writes to NAME.log in `directory`.

    services: what listens, each with the port behind it: {upstream} in its text. {listen} and {socket} are the port
    and the file descriptor that it listens on, {directory} is where it may write.
    Returns the ports that it listens on.
    """
    log = directory / f"{name}.log"
    with contextlib.ExitStack() as made:
        sockets = [made.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)) for _ in services]
        ports: list[int] = [each.getsockname()[1] for each in sockets]
        written = [
            text.format(listen=port, socket=each.fileno(), upstream=upstream, directory=directory)
            for (text, upstream), each, port in zip(services, sockets, ports, strict=True)
        ]
        configuration = _FRAMES[name].format(directory=directory, services="".join(written), user=_USER)
        (directory / f"{name}.conf").write_text(configuration + "\n")
        numbers = [each.fileno() for each in sockets]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [find_binary(name), *(word.format(directory=directory) for word in _ARGUMENTS[name])],
                stdout=output,
                stderr=output,
                pass_fds=numbers,
                env={**os.environ, "NGINX": "".join(f"{number};" for number in numbers)},  # how it inherits sockets
            )
    try:
        yield ports
    finally:
        ended = process.poll()
        process.terminate()
        process.wait(PATIENCE_S)
    assert ended is None, log.read_text()


async def taken_by_front_end(port: int, origin: Origin, raw: bytes, quiet_s: float) -> Taken:
    """The requests that the front end at `port` forwards to `origin` for `raw`, once it has closed.

    quiet_s: the silence after which it is told that no more comes.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    has_ended = True
    with contextlib.suppress(OSError):  # a refusal can come with a reset
        writer.write(raw)
        await _has_ended(reader, quiet_s)
        writer.write_eof()
        has_ended = await _has_ended(reader, PATIENCE_S)
    writer.close()
    assert has_ended, f"neither answered nor closed: {raw!r}"
    return await origin.take()


async def _has_ended(reader: asyncio.StreamReader, patience_s: float) -> bool:
    """Read and drop until the end, or until nothing has come for that long."""
    try:
        while await asyncio.wait_for(reader.read(2**16), patience_s) != b"":
            pass
    except asyncio.TimeoutError:
        return False
    return True
