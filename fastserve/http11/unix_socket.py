"""A listening Unix socket: takes the place of one that a dead server has left, and is taken away at the end.

What is accepted on it is `acceptor.py`'s. Made by `entrance.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from fastserve.errors import SetupError
from fastserve.http11.acceptor import BACKLOG

_ADVICE: Final = "try another --uds"


class UnixSocket:
    """listening: the socket, in the file system at `path`."""

    __slots__ = ("_identity", "listening", "path")

    def __init__(self, path: str, mode: int) -> None:
        """mode: permissions of the file. Raises SetupError if a server listens there, or something else is there."""
        self.path = path
        _check_place(path)
        # Bound beside its place and then moved there, so that nobody finds it before it has its permissions and
        # listens; and uvloop does not take away, when accepting pauses, what has another name by then.
        beside = f"{path}.{os.getpid()}"
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove(beside)
            self.listening.bind(beside)
            Path(beside).chmod(mode)
            self.listening.listen(BACKLOG)
            self._identity = _identity_of(beside)
            Path(beside).rename(path)
        except OSError as error:
            self.listening.close()
            with contextlib.suppress(OSError):
                _remove(beside)
            raise SetupError(f"cannot listen on {path}: {error.strerror or error}; {_ADVICE}") from None

    def remove(self) -> None:
        """Take it away, unless another server's is in its place."""
        with contextlib.suppress(OSError):
            if _identity_of(self.path) == self._identity:
                _remove(self.path)


def _check_place(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(Path(path).lstat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"cannot listen on {path}: {error.strerror}; {_ADVICE}") from None
    if not is_socket:
        raise SetupError(f"cannot listen on {path}: it is there, and no socket; {_ADVICE}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a living server may have no room
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise SetupError(f"cannot listen on {path}: another server does; {_ADVICE}")


def _identity_of(path: str) -> tuple[int, int]:
    found = Path(path).lstat()
    return found.st_dev, found.st_ino


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)
