"""Processes that user code forks off this one (multiprocessing, a torch DataLoader): their signals are their own.

They inherit the handlers of this server and the socket that wakes its loop, so that a SIGTERM meant for one of them
would drain the server instead. Called by `server.py`.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

# Only the one that ends a process: Ctrl-C goes to the whole group, and what is in flight is to be finished.
_ENDING: Final = {signal.SIGTERM}
_before: Final = threading.local()  # the signals that the forking thread held back already


def part_signals_at_fork() -> None:
    """Let every process that is forked from now on end by SIGTERM, without the server being told."""
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_part)


def _hold() -> None:
    """Until the new process is one of its own."""
    _before.held = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before.held)


def _part() -> None:
    signal.set_wakeup_fd(-1)  # as asyncio does itself from Python 3.12 on
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    _let_go()
