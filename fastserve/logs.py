"""Log set-up: text lines for a person at a terminal, JSON lines elsewhere; user tracebacks trimmed to user code.

The root logger gets the handler, so that a model's own `logging` calls come out the same way; the server's own logger
has it too, whatever a model does with the root. Called by `cli.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, TextIO, cast

from fastserve.access_writer import AccessWriter, DescriptorHandler
from fastserve.traceparent import trace_id_of

_PLAIN: Final = "%(asctime)s %(levelname)-7s %(message)s%(request_tag)s"


STDOUT: Final = 1

# Begins every id that is given here: requests of different processes are not mixed up.
PROCESS_ID: Final = os.urandom(4).hex().encode()

# The request that code runs for, on whatever thread: the peer's name for it or None, Truss's name of the chain it is
# part of or None, its number, its header fields, for the trace that they may tell of.
RequestIds = tuple[bytes | None, bytes | None, int, Mapping[bytes, bytes]]
REQUEST_IDS: Final[ContextVar[RequestIds | None]] = ContextVar("fastserve_request_ids", default=None)


def request_id(given: bytes | None, number: int) -> bytes:
    """The id of a request: the peer's own name for it, or one made of its number."""
    return given or b"%b-%x" % (PROCESS_ID, number)


class RequestFilter(logging.Filter):
    """Puts `request_id` and `chain_request_id` (None without) on every record, and `trace_id` where there is one."""

    def filter(self, record: logging.LogRecord) -> bool:
        ids = REQUEST_IDS.get()
        given, chain, number, fields = ids or (None, None, 0, {})
        name = request_id(given, number).decode() if ids else None
        trace = trace_id_of(fields)
        record.request_id = name
        record.chain_request_id = chain.decode() if chain else None
        if trace is not None and not hasattr(record, "trace_id"):  # the model may have said it itself
            record.trace_id = trace
        record.request_tag = f" [{name} {trace}]" if trace else f" [{name}]" if name else ""  # of plain text lines
        return True


# What every record has; whatever else one has was given as `extra`.
_REQUEST: Final = ("request_id", "chain_request_id", "trace_id")  # put on a record by RequestFilter
_RECORD: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "request_tag", *_REQUEST}
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with Truss's keys: asctime, levelname, message; exc_info, stack_info, ids if any.

    The keys of a dict that is logged, and of what was given as `extra`, stand among them, as by Truss.
    """

    def format(self, record: logging.LogRecord) -> str:
        import json

        is_dict = isinstance(record.msg, dict)
        line: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": "" if is_dict else record.getMessage(),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _RECORD and name[0] != "_"}
        line.update(extra)
        if is_dict:
            line.update(cast(dict[str, Any], record.msg))
        if record.exc_info and record.exc_info[1] is not None:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        for name in _REQUEST:
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        return json.dumps(line, default=str)


class ServerLogger(logging.Logger):
    """This server's own logger: what a model does to `logging` neither silences its lines nor makes them raise."""

    @property
    def disabled(self) -> bool:
        """Never: `dictConfig` and `fileConfig` disable every logger that they are not told of."""
        return False

    @disabled.setter
    def disabled(self, is_disabled: bool) -> None: ...

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """By its own level alone: `logging.disable` is for what a model and its libraries say."""
        return level >= self.getEffectiveLevel()

    def makeRecord(self, *arguments: Any, **more: Any) -> logging.LogRecord:  # noqa: N802 - logging's name
        try:
            return super().makeRecord(*arguments, **more)
        except Exception:  # noqa: BLE001 - a record factory of the model's
            return logging.LogRecord(*arguments[:7])

    def handle(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a handler or filter that a model has put here
            super().handle(record)


def set_up_logs(level: str, log_format: str) -> None:
    """Send everything logged to stderr, access lines to stdout; what the server itself logs, past the root logger.

    log_format: text, json, or auto (text if stderr is a terminal).
    DISABLE_JSON_LOGGING, if not empty, means text, as for Truss.
    """
    if log_format == "auto":
        is_text = sys.stderr.isatty() or bool(os.environ.get("DISABLE_JSON_LOGGING"))
        log_format = "text" if is_text else "json"
    handler = _make_handler(sys.stderr, log_format)
    root, own, access = logging.getLogger(), logging.getLogger("fastserve"), logging.getLogger("fastserve.access")
    for logger in (own, access):
        logger.__class__ = ServerLogger  # every module has it already
        logger.propagate = (
            False  # as Truss's own: what a model hangs on the root, or takes from it, is its own affair
        )
    for logger in (root, own):
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
    access.handlers[:] = [_make_access_handler(log_format)]
    access.setLevel(logging.INFO)  # who asks for the lines gets them, whatever the level of the rest


def _make_handler(stream: TextIO, log_format: str) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.addFilter(RequestFilter())
    handler.setFormatter(_make_formatter(log_format))
    return handler


def _make_access_handler(log_format: str) -> logging.Handler:
    """For stdout, on a thread of its own; the filter looks at what belongs to the one that logs."""
    target = DescriptorHandler(STDOUT)
    target.setFormatter(_make_formatter(log_format))
    writer = AccessWriter(target)
    writer.addFilter(RequestFilter())
    return writer


def _make_formatter(log_format: str) -> logging.Formatter:
    return JsonFormatter() if log_format == "json" else logging.Formatter(_PLAIN)


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
