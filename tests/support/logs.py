"""What `set_up_logs` changes in this process, put back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def kept_logs() -> Iterator[None]:
    """The root logger and the server's own are afterwards as they were: pytest's handlers see them again."""
    loggers = [logging.getLogger(), logging.getLogger("fastserve")]
    before = [(logger.handlers[:], logger.level, logger.propagate, logger.__class__) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level, propagate, kind) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
            logger.__class__ = kind
