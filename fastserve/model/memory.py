"""Out of memory: how it is told from other errors, what is freed then, how many came in a row.

Knows torch only if somebody has imported it. Called by `mishaps.py`, `condition.py`, `endpoints/failures.py`.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

from fastserve.errors import text_of

_logger: Final = logging.getLogger("fastserve")

# torch.cuda.OutOfMemoryError, and CuPy's. By name: whoever raises it has imported what this server does not.
_CLASS: Final = "OutOfMemoryError"
# What a plain RuntimeError says: torch's of CUDA, HIP, XPU and MPS, JAX's; and cuBLAS' and cuDNN's.
_TEXTS: Final = re.compile(r"out of memory|_ALLOC_FAILED", re.IGNORECASE)

# The frames that may be left and entered again.
_RESUMABLE: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

# Past what a class of the user's may make of asking it for an attribute.
_cause_of: Final[Callable[[BaseException], BaseException | None]] = vars(BaseException)["__cause__"].__get__

# Predicts that run side by side fail side by side: what comes within this time of a shortage's first error is part of
# it. A model that fails at once at every request, though, fails for longer than that.
SAME_S: Final = 1.0
# Without traffic nothing can succeed: after this long requests are let try again. Three periods of Kubernetes' probe
# of readiness, so that the load has really gone elsewhere meanwhile.
RECOVER_S: Final = 30.0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or what it was raised `from`, says that a device has no memory left.

    MemoryError and what torch says of the host's do not count. Linux grants what it has not got: what it refuses is
    one absurd size, which nothing that is freed makes room for. (Truss answers 500.)
    """
    return any(_says_so(one) for one in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = _cause_of(error)


def _says_so(error: BaseException) -> bool:
    kinds = type(error).__mro__
    if RuntimeError in kinds and _TEXTS.search(text_of(error)) is not None:
        return True
    return any(kind.__name__ == _CLASS for kind in kinds)


def free_memory(error: BaseException) -> None:
    """Give back what the failed call held, and what torch has put by. Blocks for some 10 ms; never raises.

    error: what it raised. Its traceback stays, to be logged, without the locals: they would keep the tensors.
    """
    try:
        _drop_locals(error)
        gc.collect()
        torch: Any = sys.modules.get("torch")
        if torch is not None:
            torch.cuda.empty_cache()  # without CUDA it does nothing
            if torch.backends.mps.is_available():
                torch.mps.empty_cache()
    except Exception:
        _logger.warning("memory could not be freed", exc_info=True)


def _drop_locals(error: BaseException) -> None:
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            for frame, _ in traceback.walk_tb(one.__traceback__):
                if not _may_go_on(frame):
                    with contextlib.suppress(RuntimeError):  # it runs
                        frame.clear()
            pending += [e for e in (one.__cause__, one.__context__) if e is not None]


def _may_go_on(frame: FrameType) -> bool:
    """Whether it is of a generator or coroutine that has caught the error and waits, as one that serves many requests
    does. Until 3.13, which refuses, clearing its frame would close it.
    """
    # The collector finds locals in a frame only when that is over; in 3.10 always, so there they are left.
    return bool(frame.f_code.co_flags & _RESUMABLE) and (sys.version_info < (3, 11) or not gc.get_referents(frame))


class Shortage:
    """Out-of-memory errors, and the successes between them. All of it on the loop.

    total: errors so far. in_row: shortages since the latest success.
    """

    __slots__ = ("_began", "_latest", "_limit", "in_row", "total")

    def __init__(self, limit: int) -> None:
        """limit: so many in a row are too many; 0: never."""
        self._limit = limit
        self._began = self._latest = 0.0
        self.total = self.in_row = 0

    def add(self, now: float) -> None:
        """A method has raised one. now: monotonic."""
        self.total += 1
        self._latest = now
        if self.in_row and now - self._began < SAME_S:
            return
        self._began = now
        self.in_row += 1
        if self.in_row == self._limit:
            _logger.error(
                "out of memory %d times in a row: not ready for %g s, or until a request succeeds",
                self.in_row,
                RECOVER_S,
            )

    def end(self) -> None:
        """A request has succeeded."""
        if self.is_too_long:
            _logger.info("a request succeeded after %d times out of memory in a row", self.in_row)
        self.in_row = 0

    @property
    def is_too_long(self) -> bool:
        """There were too many in a row."""
        return 0 < self._limit <= self.in_row

    def keeps_from_ready(self, now: float) -> bool:
        """Whether requests had better go elsewhere."""
        return self.is_too_long and now - self._latest < RECOVER_S
