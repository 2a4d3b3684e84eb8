"""Stands between whoever answers a request and its connection, and adds header fields to the answer.

Which fields is `cors.py`'s and `server_timing.py`'s to say. A request that needs none goes past it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastserve.messages import JSON, Addresses, Request, Responder, Response


class RelayingResponder:
    """messages.Responder: `connection`, with the fields for each response in what it sends."""

    __slots__ = ("_connection", "_fields_for")

    def __init__(self, connection: Responder, fields_for: Callable[[Response], bytes]) -> None:
        """fields_for: complete lines to be added; b"" for none."""
        self._connection = connection
        self._fields_for = fields_for

    def _with_fields(self, response: Response) -> Response:
        fields = self._fields_for(response)
        if not fields:
            return response
        return Response(response.kind, response.content, response.fields + fields, response.pieces)

    def send_json(self, request: Request, content: bytes) -> None:
        self.send_response(request, Response((200, JSON), content))

    def send_response(self, request: Request, response: Response) -> None:
        self._connection.send_response(request, self._with_fields(response))

    def send_head(
        self, request: Request, response: Response, length: int | None = None, *, may_pause: bool = False
    ) -> None:
        self._connection.send_head(request, self._with_fields(response), length, may_pause=may_pause)

    def send_chunks(self, request: Request, chunks: Sequence[bytes]) -> None:
        self._connection.send_chunks(request, chunks)

    def send_end(self, request: Request) -> None:
        self._connection.send_end(request)

    def abort(self, request: Request) -> None:
        self._connection.abort(request)

    def addresses(self, request: Request) -> Addresses:
        return self._connection.addresses(request)

    def can_write(self, request: Request) -> bool:
        return self._connection.can_write(request)

    def is_unanswered(self, request: Request) -> bool:
        return self._connection.is_unanswered(request)

    def upgrade(self, request: Request, make_protocol: Callable[[Any], asyncio.Protocol]) -> None:
        self._connection.upgrade(request, make_protocol)
