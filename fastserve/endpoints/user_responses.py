"""A response that the model made itself, ours or starlette's: status and header fields checked and made a message.

What it may not decide is how the message is framed. Called by `prediction.py`, `asgi.py` and `failures.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from fastserve.codec.buffers import Content, as_content, is_held_once, plain_bytes
from fastserve.codec.json_text import encode_json
from fastserve.endpoints import marks
from fastserve.errors import ResultError
from fastserve.interface.responses import OwnResponse
from fastserve.interface.responses import Response as UserResponse
from fastserve.messages import JSON, OCTET_STREAM, Response

# Truss marks what a model answers from 300 on as the client's doing.
FIRST_MARKED: Final = 300
CHOSEN_FIELDS: Final = marks.error_fields(marks.FROM_CLIENT)

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token, RFC 9110 section 5.6.2
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")  # RFC 9110 section 5.5: no CR, LF or NUL, which would end the field
# The connection's own business, or written by the encoder: a model that sets them is not obeyed.
_OURS: Final = frozenset(
    {b"connection", b"date", b"keep-alive", b"trailer", b"transfer-encoding", b"upgrade", b"x-request-id"}
)


class UserHead(NamedTuple):
    """Status and fields of a response whose content is the model's.

    response: without content. length: the Content-Length that the model gave, or None.
    """

    response: Response
    length: int | None


def read_head(status: object, pairs: Iterable[tuple[bytes, bytes]], default_type: bytes = b"") -> UserHead:
    """Check what a model says of its response.

    pairs: field names and values. default_type: the Content-Type if none of them is.
    Raises ResultError for what would not be HTTP: a status out of range, CR or LF in a value.
    """
    # Here and below not by methods of their own, which subclasses may have: what is checked must be what is sent.
    number = int.__index__(status) if isinstance(status, int) else 0
    if not 200 <= number <= 599:
        raise ResultError(f"a response must have a status from 200 to 599, not {status!r}")
    content_type, length, lines = default_type, None, b""
    for given, value in pairs:
        name, value = bytes.lower(given), bytes.strip(value)
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ResultError(f"a response cannot have the header field {name!r}: {value!r}")
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = _read_length(value)
        elif name not in _OURS and (number < FIRST_MARKED or name not in marks.NAMES):
            lines += b"".join((given, b": ", value, b"\r\n"))
    if number >= FIRST_MARKED:
        lines += CHOSEN_FIELDS
    return UserHead(Response((number, content_type), b"", lines), length)


def _read_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise ResultError(f"a response cannot have the Content-Length {value!r}")
    return int(value)


def encode_pairs(headers: Iterable[tuple[object, object]]) -> list[tuple[bytes, bytes]]:
    """Names and values as bytes. Raises ResultError for text that no header field can hold."""
    try:
        return [(str(name).encode("latin-1"), str(value).encode("latin-1")) for name, value in headers]
    except UnicodeEncodeError as error:
        raise ResultError(f"a header field holds text that is not Latin-1: {error}") from None


def head_of(user: OwnResponse, default_type: bytes) -> UserHead:
    """Status and fields of one of our own response objects."""
    given = [] if user.media_type is None else [("content-type", user.media_type)]
    return read_head(user.status_code, encode_pairs([*user.headers.items(), *given]), default_type)


def whole(box: list[UserResponse]) -> Response:
    """`fastserve.Response` as a message. box: holds it, as for `buffers.as_content`.

    Raises ResultError for content that has no form.
    """
    user = vars(box[0])
    content = [user.pop("content") if is_held_once(box, 0) else user["content"]]
    encoded, content_type = _encode(content)
    response = head_of(box[0], content_type).response
    return Response(response.kind, b"", response.fields, pieces=(encoded,))


def _encode(box: list[Any]) -> tuple[Content, bytes]:
    """The bytes of a response's content, and what they are."""
    if box[0] is None:
        return b"", b""
    if isinstance(box[0], str):
        return _encode_text(box[0]), b"text/plain; charset=utf-8"
    content = as_content(box)
    return (encode_json(box[0]), JSON) if content is None else (content, OCTET_STREAM)


def _encode_text(text: str) -> bytes:
    try:
        return str.encode(text)  # a subclass may have an `encode` of its own
    except UnicodeEncodeError as error:
        raise ResultError(f"a response holds text that is not Unicode: {error}") from None


def whole_of_starlette(user: Any) -> Response | None:
    """A plain response of starlette's as a message; None if only starlette itself knows how it is sent."""
    import sys

    base = sys.modules["starlette.responses"].Response
    if type(user).__call__ is not base.__call__ or user.background is not None:
        return None
    response = read_head(user.status_code, user.raw_headers).response
    return Response(response.kind, plain_bytes(user.body), response.fields)
