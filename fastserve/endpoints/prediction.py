"""One request in the model's hands: what its methods get, what becomes of the result, what if the client leaves.

Made by `predict.py`. Called by the model's steps, some of it on worker threads, and by the connection.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from time import monotonic_ns
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from fastserve.codec.buffers import as_content
from fastserve.codec.msgpack_encode import encode_msgpack
from fastserve.codec.pydantic_models import dump_model
from fastserve.endpoints.asgi import AsgiReply
from fastserve.endpoints.failures import EXPIRED, failure, log_failure
from fastserve.endpoints.replies import StreamReply
from fastserve.endpoints.user_responses import UserHead, head_of, whole, whole_of_starlette
from fastserve.errors import DeadlineError
from fastserve.interface import asgi
from fastserve.interface.disconnection import Disconnection
from fastserve.interface.request import Request as UserRequest
from fastserve.interface.responses import Response as UserResponse
from fastserve.interface.responses import StreamingResponse, is_response
from fastserve.logs import REQUEST_IDS
from fastserve.messages import JSON, OCTET_STREAM, Addresses, Request, Response
from fastserve.model.steps import Job
from fastserve.model.streams import Stream

if TYPE_CHECKING:
    from fastserve.endpoints.predict import MethodEndpoint


class Asked:
    """The request, for methods that take it: made into the object of their choice when the first asks.

    disconnection: told when the client leaves.
    """

    __slots__ = ("_addresses", "_content", "_head", "_made", "_scope", "disconnection")

    def __init__(self, request: Request) -> None:
        self._head = request.head
        self._content = request.content
        self._addresses: Addresses = request.connection.addresses(request)
        self._made: dict[type, Any] = {}  # one object for all methods: what one puts into `state` the next finds
        self._scope: asgi.Scope | None = None  # and one for all of starlette's, which may be of different classes
        self.disconnection = Disconnection()

    def as_type(self, request_type: type) -> Any:
        """The request as an object of `request_type`: ours or starlette's."""
        made = self._made.get(request_type)
        if made is None:
            made = self._made[request_type] = self._make(request_type)
        return made

    def _make(self, request_type: type) -> Any:
        if issubclass(request_type, UserRequest):
            addresses = self._addresses
            return request_type(
                self._head,
                self._content,
                addresses.client,
                self.disconnection,
                is_encrypted=addresses.is_encrypted,
            )
        if self._scope is None:
            state = {"watch_disconnect": self.disconnection.watch}
            self._scope = asgi.make_scope(self._head, self._addresses, state)
        return asgi.make_request(request_type, self._scope, asgi.make_receive(self.disconnection), self._content)


class Prediction(Job):
    """One request on its way through the model (messages.Work).

    asked: the request, if some method takes it.
    disconnection: told when the client leaves or the answer is complete; None while nobody would be told.
    stream_head: status and fields of the stream that the result is.
    stands_for: of one that is timed: so many requests of which the others are not.
    """

    __slots__ = ("_endpoint", "_reply", "asked", "disconnection", "request", "stands_for", "stream_head")

    _reply: StreamReply | None
    asked: Asked | None
    disconnection: Disconnection | None
    stream_head: UserHead | None
    stands_for: int

    def __init__(self, endpoint: MethodEndpoint, request: Request, payload: Any) -> None:
        # Job.__init__ is written out: a frame less for each request.
        self.value = payload
        self.size = 0
        self.error = self.context = self.stream = self.task = self.times = self.running = self.load = None
        self.is_cancelled = self.is_shielded = self.is_unread = False
        self._endpoint = endpoint
        self.request = request
        self._reply = self.asked = self.disconnection = self.stream_head = None

    def time(self, arrived: int, stands_for: int) -> None:
        """Have it timed. arrived: when the request was complete, in ns of the monotonic clock."""
        self.times = [arrived]
        self.expires = arrived + self._endpoint.begin_ns
        self.stands_for = stands_for

    def let_ask(self) -> None:
        """Some method takes the request."""
        self.asked = Asked(self.request)
        self.disconnection = self.asked.disconnection

    # --- called by the model's side ---

    def request_as(self, request_type: type) -> Any:
        assert self.asked is not None
        return self.asked.as_type(request_type)

    def encode(self) -> Any:
        try:
            return self._endpoint.encode_plain(self.value)
        except TypeError:
            pass  # with its traceback, which refers to the value
        if is_response(self.value):
            return self._encode_response()
        if isinstance(self.value, _BYTES):
            return self._encode_bytes()
        return self._endpoint.encode_carefully(self.value)

    def _encode_response(self) -> Any:
        """A response of the model's own."""
        response = self.value
        if isinstance(response, UserResponse):
            self.value = None
            return whole([response])
        if isinstance(response, StreamingResponse):
            self.stream_head = head_of(response, OCTET_STREAM)
            return _iterate(response.content)
        return whole_of_starlette(response) or self._send_starlette(response)

    def _encode_bytes(self) -> Response:
        """Bytes as they are, from where they lie if nobody else holds them."""
        box, self.value = [self.value], None
        content = as_content(box)
        assert content is not None
        return Response((200, OCTET_STREAM), b"", pieces=(content,))

    def _send_starlette(self, response: Any) -> Any:
        """Have starlette send it: a stream within the slot, as it may still run the model; else afterwards."""
        reply = AsgiReply(self, response, self._endpoint.runtime, self._endpoint.directory)
        return reply.send_in_slot() if hasattr(response, "body_iterator") else reply

    def wants_whole(self) -> bool:
        """Truss's rule: a client that accepts exactly JSON gets a generator's output as one JSON string.

        Not the OpenAI clients, which say so and mean a stream.
        """
        fields = self.request.head.fields
        return (
            self.stream_head is None
            and self._endpoint.gathers
            and fields.get(b"accept") == JSON
            and b"openai" not in fields.get(b"user-agent", b"").lower()
        )

    def on_result(self) -> None:
        if self.times is not None:
            self._endpoint.note(self, self.times)
        if self.disconnection is not None and not isinstance(self.value, AsgiReply):
            self.disconnection.happen()
        if self.is_cancelled or self.stream is not None:
            self._on_unwanted_result()
            return
        request = self.request
        if self.error is None:
            value = self.value
            if type(value) is bytes:
                request.connection.send_json(request, value)
            else:
                self._send(value)
        else:
            REQUEST_IDS.set(request.ids)  # this runs for many requests in one turn
            endpoint = self._endpoint
            error, self.error = self.error, None  # its traceback holds the frames that hold this
            if type(error) is DeadlineError:
                endpoint.count_expired("queue")
            response = failure(error, endpoint.directory, loses_headers=endpoint.loses_error_headers)
            request.connection.send_response(request, response)

    def _send(self, content: Any) -> None:
        if isinstance(content, Response):
            self.request.connection.send_response(self.request, content)
        elif content is not None:  # else it has been sent within the slot
            start = functools.partial(self._endpoint.runtime.run_task, content.run())
            if self.context is None:
                start()
            else:  # not in that of whoever's result came first in this turn
                self.context.run(start)

    def _on_unwanted_result(self) -> None:
        """Nobody is there to be told what went wrong; the log is. A response still has its background task run."""
        error, self.error = self.error, None
        if isinstance(self.value, AsgiReply):
            self._send(self.value)
        if error is not None and not issubclass(type(error), asyncio.CancelledError):
            REQUEST_IDS.set(self.request.ids)
            log_failure(error, self._endpoint.directory)

    def on_chunks(self, stream: Stream) -> None:
        if self._reply is None:
            self._reply = self._endpoint.reply_for(self.request, self.stream_head)
        self._reply.on_chunks(stream)

    # --- called by the connection's side (messages.Work) ---

    def on_disconnect(self) -> None:
        self._endpoint.count_cancelled(self)
        self._let_go()

    def limit(self, limit_ns: int) -> int:
        """It is to be answered so long after its arrival, or sooner if its server says so. Returns when that is."""
        endpoint = self._endpoint
        limit_ns = min(limit_ns, endpoint.timeout_ns)
        assert self.times is not None
        self.expires = self.times[0] + endpoint.time_to_begin_ns(limit_ns)
        return self.times[0] + limit_ns

    def on_tick(self, elapsed_s: float) -> None:
        endpoint = self._endpoint
        endpoint.learn(monotonic_ns())
        if elapsed_s >= endpoint.timeout_s or (self.running is None and elapsed_s >= endpoint.begin_s):
            self.expire()

    def expire(self) -> None:
        """The deadline has passed: 504, and what is done for it goes on as if its client had left."""
        request = self.request
        if request.connection.is_unanswered(request):
            self._endpoint.count_expired(self._endpoint.entry.stage_of(self))
            request.connection.send_response(request, EXPIRED)
            self._let_go()

    def _let_go(self) -> None:
        """Nobody waits for the answer any more."""
        if self.disconnection is not None:
            self.disconnection.happen()
        endpoint = self._endpoint
        if endpoint.cancel_on_disconnect == "none":
            self.drop_output(stops=False)
            return
        self.cancel()
        endpoint.entry.withdraw(self)
        if endpoint.cancel_on_disconnect == "all":
            self.cancel_coroutine()

    def on_writable(self) -> None:
        if self._reply is not None and self.stream is not None:
            self._reply.on_chunks(self.stream)


class BinaryPrediction(Prediction):
    """One whose client speaks msgpack."""

    __slots__ = ()

    def encode(self) -> Any:
        if is_response(self.value):
            return self._encode_response()
        if isinstance(self.value, bytes):  # a bytearray or memoryview is msgpack like any other value, as in Truss
            return self._encode_bytes()
        box, self.value = [dump_model(self.value)], None
        return Response((200, OCTET_STREAM), b"", pieces=encode_msgpack(box))


_BYTES: Final = (bytes, bytearray, memoryview)


def _iterate(content: Any) -> Generator[Any, None, None] | AsyncGenerator[Any, None]:
    """An iterator's items as a generator's."""
    if isinstance(content, (GeneratorType, AsyncGeneratorType)):
        return content
    if isinstance(content, AsyncIterable):
        return (item async for item in content)
    return (item for item in content)
