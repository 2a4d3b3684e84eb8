"""A connection for endpoints alone: records what they answer, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastserve.messages import JSON, Addresses, Request, Response


class RecordingResponder:
    """messages.Responder without a peer. is_writable: whether the peer would keep up."""

    def __init__(self) -> None:
        self.response: Response | None = None
        self.calls: list[str] = []
        self.content = b""
        self.length: int | None = None  # that `send_head` was given
        self.is_writable = True

    def send_json(self, request: Request, content: bytes) -> None:
        self.send_response(request, Response((200, JSON), content))

    def send_response(self, request: Request, response: Response) -> None:
        self.calls.append("response")
        self.response = response
        self.content = b"".join([response.content, *response.pieces])

    def send_head(
        self, request: Request, response: Response, length: int | None = None, *, may_pause: bool = False
    ) -> None:
        self.calls.append("head")
        self.response = response
        self.length = length

    def send_chunks(self, request: Request, chunks: Sequence[bytes]) -> None:
        self.calls.append("chunks")
        self.content += b"".join(chunks)

    def send_end(self, request: Request) -> None:
        self.calls.append("end")

    def abort(self, request: Request) -> None:
        self.calls.append("abort")

    def addresses(self, request: Request) -> Addresses:
        return Addresses(("127.0.0.1", 50000), ("127.0.0.1", 8080))

    def can_write(self, request: Request) -> bool:
        return self.is_writable

    def is_unanswered(self, request: Request) -> bool:
        return not self.calls

    def upgrade(self, request: Request, make_protocol: Callable[[Any], asyncio.Protocol]) -> None:
        self.calls.append("upgrade")
