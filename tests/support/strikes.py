"""An exception raised in another thread, as timeouts for blocking code do it."""

from __future__ import annotations

import ctypes
import threading


def strike(thread: threading.Thread, kind: type[BaseException] = SystemExit) -> None:
    """Have `kind` raised in `thread` when it next runs Python code; nothing happens if it has ended."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))
