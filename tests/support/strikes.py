"""An exception raised in another thread, as timeouts for blocking code do it."""

from __future__ import annotations

import ctypes
import math
import random
import threading
import time
from collections.abc import Sequence
from typing import Final

from fastserve.model.threads import Workers

# Between two strikes at one thread: it has long come round from the first, as a rule, and if not it is replaced.
PAUSE_S: Final = 0.001


def strike(thread: threading.Thread, kind: type[BaseException] = SystemExit) -> None:
    """Have `kind` raised in `thread` when it next runs Python code; nothing happens if it has ended."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))


class Striker:
    """Strikes threads at moments of chance; one that has not felt the strike before is left alone."""

    def __init__(self) -> None:
        self._chosen = random.Random(5)
        self._again_at: dict[int, float] = {}  # by thread; infinite until it has felt its strike
        again_at = self._again_at
        self.felt = felt = list[int]()

        class Strike(SystemExit):
            def __init__(self) -> None:  # in the thread that is struck
                felt.append(threading.get_ident())
                again_at[felt[-1]] = time.monotonic() + PAUSE_S

        self._kind = Strike

    def strike(self, pools: Sequence[Workers]) -> None:
        worker = self._chosen.choice([worker for pool in pools for worker in pool.all])
        ident = worker.thread.ident
        assert ident is not None
        if self._again_at.get(ident, 0.0) < time.monotonic():
            self._again_at[ident] = math.inf
            strike(worker.thread, self._kind)
