"""Writes access lines on a thread of its own: whoever reads them slowly, or not at all, keeps no request waiting.

Only lines that nobody needs to explain a crash: all others are written at once. Used by `logs.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from typing import Final

# Some ten seconds of a busy server, and 10 MB. What comes while so many wait is counted instead.
MOST_WAITING: Final = 20_000
# At exit, for lines that are still to be written: a reader that keeps up needs milliseconds.
FLUSH_S: Final = 1.0


class DescriptorHandler(logging.Handler):
    """Writes each line to a file descriptor at once.

    Without Python's buffer: the lock of that, held by a thread that is stuck, would stop the interpreter's end.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None, for the same reason; one thread writes."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode(errors="backslashreplace")
        while line:
            line = line[os.write(self._descriptor, line) :]


class AccessWriter(logging.Handler):
    """Has `target` write each record, in order, off the thread that logs it."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._waiting: deque[logging.LogRecord] = deque()
        self._dropped = 0
        self._bell = threading.Condition()
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """The filters have run: they look at what belongs to the request."""
        with self._bell:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            if self._dropped:
                self._waiting.append(_note(record, self._dropped))
                self._dropped = 0
            self._waiting.append(record)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="fastserve-access-log", daemon=True)
                self._thread.start()
            if not self._is_writing:
                self._bell.notify_all()

    def _write(self) -> None:
        while True:
            with self._bell:
                self._is_writing = False
                self._bell.notify_all()  # whoever flushes
                self._bell.wait_for(lambda: self._waiting)
                self._is_writing = True
            while self._waiting:
                with contextlib.suppress(Exception):  # stdout may be closed
                    self._target.handle(self._waiting.popleft())

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None: `_bell` is one, and `flush` waits, while others log."""
        self.lock = None

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        with self._bell:
            self._bell.wait_for(lambda: not self._waiting and not self._is_writing, FLUSH_S)


def _note(like: logging.LogRecord, dropped: int) -> logging.LogRecord:
    """The line that stands for those that are not there."""
    text = "%d lines are missing here: nobody has read what was written"
    return logging.LogRecord(like.name, logging.WARNING, "", 0, text, (dropped,), None)
