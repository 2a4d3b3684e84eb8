"""Backpressure both ways on one transport: pause reading, and know whether writing is wanted.

Reading stops while bytes of a further request wait; writing stops when the peer does not read. Owned by
`connection.py`, or by `websocket/session.py` after an upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s


class Flow:
    """The state of one transport's two directions.

    is_writable: the transport's write buffer is under its high-water mark (64 KiB).
    is_reading: what comes is received.
    """

    __slots__ = ("_seen_waiting", "_stalled_since", "_transport", "is_reading", "is_writable")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_reading = True
        self.is_writable = True
        self._seen_waiting = 0
        self._stalled_since = 0.0

    def pause_reading(self) -> None:
        """Leave what comes in the kernel's buffer, so that the peer's window closes."""
        if self.is_reading:
            self.is_reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.is_reading:
            self.is_reading = True
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self._seen_waiting = 0  # the peer has taken something

    def stalled_for(self, now: float) -> float:
        """Seconds for which the peer has taken none of the bytes that wait for it. Called by the sweep.

        What waits is in the transport's buffer and in the kernel's. The first shrinks in steps of megabytes, so that
        a slow but steady reader shows only in the second.
        """
        waiting = self._transport.get_write_buffer_size()
        if waiting:
            waiting += self._bytes_in_kernel()
        if waiting == 0 or waiting < self._seen_waiting or self._seen_waiting == 0:
            self._stalled_since = now
        self._seen_waiting = waiting
        return now - self._stalled_since

    def has_unread(self) -> bool:
        """Whether bytes have arrived that the transport has not read yet (tcp(7), SIOCINQ)."""
        return self._ask_kernel(termios.FIONREAD) > 0

    def _bytes_in_kernel(self) -> int:
        """Bytes sent and not acknowledged by the peer (tcp(7), SIOCOUTQ)."""
        return self._ask_kernel(termios.TIOCOUTQ)

    def _ask_kernel(self, what: int) -> int:
        tcp = self._transport.get_extra_info("socket")
        if tcp is None:
            return 0
        try:
            answer = fcntl.ioctl(tcp.fileno(), what, b"\0\0\0\0")
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def has_unsent(self) -> bool:
        """Whether something written has not been sent."""
        return self._transport.get_write_buffer_size() > 0

    def reset_on_close(self) -> None:
        """Make the coming close a TCP reset instead of an orderly end."""
        tcp = self._transport.get_extra_info("socket")
        if tcp is None:
            return
        # A duplicate, because uvloop's own cannot set options; out of file descriptors it is an orderly end.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(tcp.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
