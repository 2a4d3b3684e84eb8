"""Log set-up: text lines for a person at a terminal, JSON lines elsewhere; user tracebacks trimmed to user code.

The root logger gets the handler, so that a model's own `logging` calls come out the same way. Called by `cli.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from contextvars import ContextVar
from typing import Final

_PLAIN: Final = "%(asctime)s %(levelname)-7s %(message)s%(request_tag)s"


# Begins every id that is given here: requests of different processes are not mixed up.
PROCESS_ID: Final = os.urandom(4).hex().encode()

# The request that code runs for, on whatever thread: the peer's name for it or None, Truss's name of the chain it is
# part of or None, its number.
RequestIds = tuple[bytes | None, bytes | None, int]
REQUEST_IDS: Final[ContextVar[RequestIds | None]] = ContextVar("fastserve_request_ids", default=None)


def request_id(given: bytes | None, number: int) -> bytes:
    """The id of a request: the peer's own name for it, or one made of its number."""
    return given or b"%b-%x" % (PROCESS_ID, number)


class RequestFilter(logging.Filter):
    """Puts `request_id` and `chain_request_id` (None without) on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        ids = REQUEST_IDS.get()
        given, chain, number = ids or (None, None, 0)
        name = request_id(given, number).decode() if ids else None
        record.request_id = name
        record.chain_request_id = chain.decode() if chain else None
        record.request_tag = f" [{name}]" if name else ""  # of plain text lines
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with Truss's keys: asctime, levelname, message; exc_info and request ids if any."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        line = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
        }
        for key in ("request_id", "chain_request_id"):
            if (value := getattr(record, key, None)) is not None:
                line[key] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logs(level: str, log_format: str) -> None:
    """Send everything logged to stderr. log_format: text, json, or auto (text if stderr is a terminal).

    DISABLE_JSON_LOGGING, if not empty, means text, as for Truss.
    """
    if log_format == "auto":
        is_text = sys.stderr.isatty() or bool(os.environ.get("DISABLE_JSON_LOGGING"))
        log_format = "text" if is_text else "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RequestFilter())
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_PLAIN))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def trimmed(error: BaseException, directory: str) -> BaseException:
    """`error`, its traceback starting at the first frame in `directory`, for `exc_info`; causes and contexts too.

    Without such a frame (a SyntaxError of the module itself, say) no frames are left, only type and message.
    """
    prefix = directory.rstrip(os.sep) + os.sep
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        step = one.__traceback__
        while step is not None and not step.tb_frame.f_code.co_filename.startswith(prefix):
            step = step.tb_next
        with contextlib.suppress(Exception):  # a class of the user's may refuse
            one.__traceback__ = step
        pending += [e for e in (one.__cause__, one.__context__) if e is not None]
    return error
