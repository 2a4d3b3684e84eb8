"""What went wrong in the model, as a response: one table.

Status codes, `X-BASETEN-ERROR-*` header fields and texts are Truss's. Called by the endpoints.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final

from fastserve.codec.json_text import encode_json
from fastserve.endpoints.marks import FROM_CLIENT, FROM_MODEL, FROM_SERVER, error_fields
from fastserve.endpoints.user_responses import CHOSEN_FIELDS, encode_pairs, read_head
from fastserve.errors import DeadlineError, RequestError, ResultError
from fastserve.interface.responses import is_http_error
from fastserve.logs import trimmed
from fastserve.messages import JSON, Response, encode_fields, error_response
from fastserve.model.memory import is_out_of_memory

_logger: Final = logging.getLogger("fastserve")

# What has been freed can be had again at once, and what ran beside it is over soon: the shortest time there is.
RETRY_AFTER_S: Final = 1

_MODEL_MESSAGE: Final = "Internal Server Error (in model/chainlet)."


def truss_error(status: int, code: int, message: object, fields: bytes = b"") -> Response:
    """An error response with Truss's header fields. code: FROM_CLIENT, FROM_MODEL or FROM_SERVER."""
    return error_response(status, message, error_fields(code) + fields)


NOT_READY: Final = truss_error(503, FROM_MODEL, "Model with name model is not ready.")
EXPIRED: Final = truss_error(
    504, FROM_SERVER, "not answered within the time that the server or X-Request-Timeout allows; queueing included"
)
MODEL_FAILED: Final = truss_error(500, FROM_MODEL, _MODEL_MESSAGE)
OUT_OF_MEMORY: Final = truss_error(
    503, FROM_MODEL, "The model ran out of memory.", b"Retry-After: %d\r\n" % RETRY_AFTER_S
)


def refusal(error: RequestError) -> Response:
    """The answer to content that cannot be decoded."""
    return truss_error(error.status, FROM_CLIENT, error.message, encode_fields(error.fields))


def failure(error: BaseException, directory: str, *, loses_headers: bool = False) -> Response:
    """The answer to what a model's method raised, or returned and cannot be encoded; logged here.

    directory: the model's; log lines show the traceback from its first frame there on. The client learns nothing of
    what user code raised, unless that is an HTTP error: its status, detail and header fields are the answer.
    loses_headers: those fields are left out, as by Truss. Never raises, whatever `error` does.
    """
    if type(error) is DeadlineError:
        return EXPIRED
    if is_http_error(error):
        return _chosen_failure(error, directory, loses_headers)
    log_failure(error, directory)
    if issubclass(type(error), ResultError):
        return truss_error(500, FROM_SERVER, f"Unhandled exception: {error}")
    return OUT_OF_MEMORY if is_out_of_memory(error) else MODEL_FAILED


def _chosen_failure(error: Any, directory: str, loses_headers: bool) -> Response:
    """The answer that an HTTPError or HTTPException chooses."""
    log_failure(error, directory, "Model raised HTTPException")
    try:
        headers = {} if loses_headers else error.headers or {}
        given = read_head(error.status_code, encode_pairs(headers.items()), JSON).response
        content = encode_json({"error": error.detail})
    except ResultError as wrong:
        return failure(wrong, directory)
    except Exception as wrong:  # noqa: BLE001 - its headers may be anything
        log_failure(wrong, directory)
        return MODEL_FAILED
    fields = given.fields.removesuffix(CHOSEN_FIELDS)
    return Response((given.kind[0], JSON), content, error_fields(FROM_MODEL) + fields)


def log_failure(error: BaseException, directory: str, message: str = _MODEL_MESSAGE) -> None:
    """Log what user code raised, its traceback trimmed to the user's frames. Never raises, whatever `error` does."""
    try:
        if isinstance(error, ResultError):
            _logger.error("The result cannot be sent: %s", error)
        else:
            _logger.error(message, exc_info=trimmed(error, directory))
    except Exception:  # noqa: BLE001 - an exception class of the user's, or a log handler, that itself fails
        with contextlib.suppress(Exception):
            _logger.error("%s It cannot be shown: %s", message, type(error).__name__)
