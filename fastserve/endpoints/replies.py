"""A generator's output as one response: its head, its chunks, and how it ends.

Takes from a `Stream`, writes to the connection. Used by `prediction.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from fastserve.endpoints.failures import MODEL_FAILED, failure, log_failure
from fastserve.endpoints.user_responses import UserHead
from fastserve.errors import ResultError, text_of
from fastserve.logs import REQUEST_IDS
from fastserve.messages import EVENT_STREAM, Request, Response
from fastserve.model.streams import Stream

# The head of a stream goes out with its first chunk; after this long without one, alone: a generator that fails at
# once is then still a real 500, and a slow one does not look like a dead server.
HEAD_DELAY_S: Final = 0.1
# A client that takes whatever it is sent, and a generator that has run far ahead of it, let others have a turn of the
# loop after this long. (After each write: half the chunks a second.)
TURN_S: Final = 0.005

_NO_CONTENT: Final = frozenset({204, 205, 304})  # statuses that have none (RFC 9110 sections 15.3.5, 15.3.6, 15.4.5)


class StreamReply:
    """One streamed response.

    head: status and fields; with a length, exactly so many bytes of content must come.
    directory: the model's, for tracebacks. ends_cut_streams: `on_stream_error: end`, as Truss does.
    may_pause: chunks may be further apart than the read timeout.
    """

    __slots__ = (
        "_directory",
        "_ends_cut_streams",
        "_has_head",
        "_head",
        "_head_timer",
        "_is_over",
        "_left",
        "_loop",
        "_may_pause",
        "_request",
        "_will_go_on",
    )

    def __init__(
        self,
        request: Request,
        head: UserHead,
        loop: asyncio.AbstractEventLoop,
        directory: str,
        *,
        ends_cut_streams: bool,
        may_pause: bool = False,
    ) -> None:
        self._request = request
        self._head = head
        self._left = head.length  # bytes still to come, if it is known
        self._directory = directory
        self._ends_cut_streams = ends_cut_streams
        self._may_pause = may_pause
        self._has_head = False
        self._is_over = False
        self._will_go_on = False  # in the loop's next turn
        self._loop = loop
        self._head_timer = loop.call_later(HEAD_DELAY_S, self._send_head)

    def on_chunks(self, stream: Stream) -> None:
        """Send what there is, in one turn of the loop what is taken at once; end the response if the stream has."""
        if self._is_over:
            if not stream.is_cancelled:
                stream.cancel()  # nothing more is sent: the producer must not wait for room
            return
        if stream.is_cancelled:
            self._leave(stream)
            return
        request = self._request
        connection = request.connection
        if not stream.is_empty and not self._has_head:
            self._send_head()
        if self._will_go_on:
            return
        ends = self._loop.time() + TURN_S
        while not stream.is_empty and connection.can_write(request):
            if self._loop.time() > ends:
                self._will_go_on = True
                self._loop.call_soon(self._go_on, stream)
                return
            if not self._send_chunks(stream.take()):
                stream.cancel()
                return
        if stream.is_done and stream.is_empty:
            self._end(stream.error)

    def _go_on(self, stream: Stream) -> None:
        self._will_go_on = False
        self.on_chunks(stream)

    def _send_head(self) -> None:
        self._head_timer.cancel()
        self._has_head = True
        request, response = self._request, self._head.response
        if response.kind[0] in _NO_CONTENT:
            self._is_over = True
            request.connection.send_response(request, response)
        else:
            request.connection.send_head(request, response, self._head.length, may_pause=self._may_pause)

    def _send_chunks(self, chunks: Sequence[bytes]) -> bool:
        """Returns False if that is more than the head has promised."""
        if self._is_over:
            return False
        if self._left is not None:
            self._left -= sum(map(len, chunks))
            if self._left < 0:
                self._end(ResultError(f"more content than its Content-Length of {self._head.length}"))
                return False
        self._request.connection.send_chunks(self._request, chunks)
        return True

    def _end(self, error: BaseException | None) -> None:
        self._is_over = True
        self._head_timer.cancel()
        request = self._request
        connection = request.connection
        if error is None and self._left:
            error = ResultError(f"{self._left} bytes less than its Content-Length of {self._head.length}")
        if error is not None:
            REQUEST_IDS.set(request.ids)
        if error is None:
            if not self._has_head:
                self._send_head()
            if self._head.response.kind[0] not in _NO_CONTENT:
                connection.send_end(request)
        elif not self._has_head:
            connection.send_response(request, failure(error, self._directory))
        else:
            self._cut(error)

    def _cut(self, error: BaseException) -> None:
        """No error response once the status line is out; a cut stream must not look whole (RFC 9112 section 8)."""
        request = self._request
        message = f"Exception while generating streamed response: {text_of(error)}"
        log_failure(error, self._directory, message)
        if self._head.response.kind[1].startswith(EVENT_STREAM) and self._left is None:
            request.connection.send_chunks(request, [_ERROR_EVENT])
        if self._ends_cut_streams and not issubclass(type(error), ResultError):  # a wrong chunk is cut, as by Truss
            request.connection.send_end(request)
        else:
            request.connection.abort(request)

    def _leave(self, stream: Stream) -> None:
        """The client has gone; what its generator raises on being closed is still worth a line."""
        self._head_timer.cancel()
        if stream.is_done:
            self._is_over = True
            if stream.error is not None and not issubclass(type(stream.error), asyncio.CancelledError):
                REQUEST_IDS.set(self._request.ids)
                log_failure(stream.error, self._directory, "Exception in a stream whose client has gone")


OK_STREAM: Final = UserHead(Response((200, b"application/octet-stream"), b""), None)
OK_EVENTS: Final = UserHead(Response((200, EVENT_STREAM), b""), None)

# The event that tells an EventSource of the failure (HTML standard, section 9.2); nothing of what user code raised.
# The empty line before it ends what the model may have left open; behind a complete event it means nothing.
_ERROR_EVENT: Final = b"\n\nevent: error\ndata: %b\n\n" % MODEL_FAILED.content
