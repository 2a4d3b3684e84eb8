"""Runs a response object of starlette's: what it sends by ASGI becomes one response, whole or streamed.

Covers whatever starlette and its kin can send: files, streams, server-sent events, background tasks.
Used by `prediction.py`, for what is not simply a status, fields and bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastserve.codec.buffers import plain_bytes
from fastserve.endpoints.failures import failure, log_failure
from fastserve.endpoints.user_responses import UserHead, read_head
from fastserve.errors import ResultError
from fastserve.interface.asgi import Message, make_receive, make_scope
from fastserve.interface.disconnection import Disconnection
from fastserve.messages import Response
from fastserve.model.runtime import Runtime
from fastserve.model.streams import Stream

if TYPE_CHECKING:
    from fastserve.endpoints.prediction import Prediction

App = Callable[..., Awaitable[None]]


class AsgiReply:
    """One response that is sent by calling it."""

    __slots__ = (
        "_app",
        "_directory",
        "_has_left",
        "_head",
        "_is_complete",
        "_prediction",
        "_runtime",
        "_stream",
        "_when_complete",
    )

    def __init__(self, prediction: Prediction, app: App, runtime: Runtime, directory: str) -> None:
        self._prediction = prediction
        self._app = app
        self._runtime = runtime
        self._directory = directory
        self._head: UserHead | None = None
        self._stream: Stream | None = None
        self._is_complete = False
        self._has_left = False  # the client, before the response was complete
        self._when_complete: asyncio.Future[None] | None = None

    async def send_in_slot(self) -> None:
        """Until all content has been produced; what comes after that (a background task) goes on by itself."""
        self._when_complete = asyncio.get_running_loop().create_future()
        self._runtime.run_task(self.run())
        await self._when_complete

    async def run(self) -> None:
        """Call the response until it is done, its background task included. Never raises."""
        try:
            await self._call()
            if not self._is_complete:
                self._fail(None if self._prediction.is_unread else ResultError("the response ended before its end"))
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self._fail(error)
        finally:
            self._complete()
        if self._has_left:
            await self._clean_up()

    async def _call(self) -> None:
        prediction = self._prediction
        if prediction.disconnection is None:
            prediction.disconnection = Disconnection()
            if prediction.is_unread:
                prediction.disconnection.happen()
        request = prediction.request
        scope = make_scope(request.head, request.connection.addresses(request), {})
        await self._app(scope, make_receive(prediction.disconnection), self._send)

    async def _clean_up(self) -> None:
        """What starlette leaves out if it cannot send all: closing the iterator; a task that removes a file, say."""
        aclose = getattr(getattr(self._app, "body_iterator", None), "aclose", None)
        for finish in (aclose, getattr(self._app, "background", None)):
            try:
                if finish is not None:
                    await finish()
            except BaseException as error:  # noqa: BLE001
                self._fail(error)

    async def _send(self, message: Message) -> None:
        """ASGI's `send`: http.response.start, then http.response.body until one has no `more_body`."""
        kind = message["type"]
        if kind == "http.response.start" and self._head is None:
            self._head = read_head(message["status"], message.get("headers", ()))
            if self._when_complete is not None:
                self._open_stream(self._head)  # now: its head may have to go out before the first piece is there
        elif kind == "http.response.body" and self._head is not None and not self._is_complete:
            content = plain_bytes(message.get("body", b""))
            await self._send_content(self._head, content, message.get("more_body", False))
        else:
            raise ResultError(f"a response cannot send {kind!r} here")

    async def _send_content(self, head: UserHead, content: bytes, has_more: bool) -> None:
        if self._stream is None and not has_more:
            kind, fields = head.response.kind, head.response.fields
            # A file may have become shorter since its length was asked for; a body that is held does not change.
            if head.length not in (None, len(content)) and kind[0] != 304 and not hasattr(self._app, "body"):
                raise ResultError(f"{len(content)} bytes of content, and a Content-Length of {head.length}")
            request = self._prediction.request
            request.connection.send_response(request, Response(kind, content, fields))
            self._complete()
            return
        stream = self._stream or self._open_stream(head)
        if not stream.put(content):
            await stream.wait_for_room_on_loop()
        if stream.must_stop:
            self._has_left = True
            raise ClientGoneError
        if not has_more:
            stream.end()
            self._complete()
        else:
            await asyncio.sleep(0)  # a response that never waits must not hold the loop

    def _open_stream(self, head: UserHead) -> Stream:
        self._prediction.stream_head = head
        self._stream = self._runtime.open_stream(self._prediction, stops_unread=self._prediction.asked is None)
        return self._stream

    def _complete(self) -> None:
        """All content is produced."""
        self._is_complete = True
        if self._prediction.disconnection is not None:
            self._prediction.disconnection.happen()
        if self._when_complete is not None and not self._when_complete.done():
            self._when_complete.set_result(None)

    def _fail(self, error: BaseException | None) -> None:
        """The response ended too early; without an error because its client has gone, and it looked."""
        if self._stream is not None and not self._stream.is_done:
            self._stream.end(None if self._has_left else error)
        elif error is None:
            return
        elif self._is_complete:
            log_failure(error, self._directory, "Exception after the response was complete")
        elif not self._has_left:
            request = self._prediction.request
            request.connection.send_response(request, failure(error, self._directory))


class ClientGoneError(OSError):
    """The client has gone: what ASGI servers raise from `send`, so that the one who sends ends."""
