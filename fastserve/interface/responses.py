"""What a method may return or raise to decide status and header fields itself: ours, and how starlette's are known.

Values only; `endpoints/replies.py` makes messages of them.
"""

from __future__ import annotations

import http
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any


class OwnResponse:
    """What a whole response and a streamed one have in common."""

    def __init__(
        self, content: Any, status_code: int, headers: Mapping[str, str] | None, media_type: str | None
    ) -> None:
        self.content = content
        self.status_code = status_code
        self.headers = dict(headers or {})
        self.media_type = media_type


class Response(OwnResponse):
    """A whole response.

    content: text (sent as UTF-8) or bytes (bytearray, memoryview) as they are; None is no content; anything else is
        sent as JSON.
    media_type: the Content-Type; by default text/plain, application/octet-stream or application/json.
    """

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type)


class StreamingResponse(OwnResponse):
    """A response whose content is what an iterator or async iterator yields: text or bytes.

    A plain iterator is run on the thread of the method that returned it, within its slot.
    """

    def __init__(
        self,
        content: Iterable[str | bytes] | AsyncIterable[str | bytes],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type)


class HTTPError(Exception):
    """Raise it to answer with `status_code` and {"error": detail}.

    detail: anything JSON can hold; by default the status code's phrase. headers: further header fields.
    """

    def __init__(self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None) -> None:
        if detail is None:
            detail = _phrase(status_code)
        super().__init__(f"{status_code}: {detail}")
        self.status_code = status_code
        self.detail = detail
        self.headers = dict(headers or {})


def _phrase(status_code: int) -> str:
    try:
        return http.HTTPStatus(status_code).phrase
    except ValueError:  # 499 and its like, which others have made up
        return f"Error {status_code}"


def is_starlette_response(value: object) -> bool:
    """Whether `value` is one of starlette's or fastapi's response objects."""
    starlette = sys.modules.get("starlette.responses")
    return starlette is not None and isinstance(value, starlette.Response)


def is_response(value: object) -> bool:
    """Whether `value` is a response that the model made itself, ours or starlette's."""
    return isinstance(value, OwnResponse) or is_starlette_response(value)


def is_http_error(error: BaseException) -> bool:
    """Whether user code raised this to choose the answer: ours, starlette's or (a subclass of that) fastapi's."""
    starlette = sys.modules.get("starlette.exceptions")
    classes = (HTTPError,) if starlette is None else (HTTPError, starlette.HTTPException)
    return issubclass(type(error), classes)  # `isinstance` asks its `__class__`, too, which is user code
