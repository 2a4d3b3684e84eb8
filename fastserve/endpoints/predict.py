"""POST to predict: decode the content, run the model, encode what it returned.

Knows the model's one door, not how it runs; knows responses, not sockets. Called by the router.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastserve.codec import decode_json
from fastserve.config import Config
from fastserve.endpoints.failures import NOT_READY, failure, log_failure, refusal
from fastserve.errors import RequestError, text_of
from fastserve.lifecycle import Lifecycle
from fastserve.messages import JSON, OCTET_STREAM, Head, Request, Response, Route
from fastserve.model.runtime import Runtime
from fastserve.model.steps import Job
from fastserve.model.streams import Stream

_OK_STREAM: Final = Response((200, OCTET_STREAM), b"")

# The head of a stream goes out with its first chunk; after this long without one, alone: a generator that fails at
# once is then still a real 500, and a slow one does not look like a dead server.
HEAD_DELAY_S: Final = 0.1


class PredictEndpoint:
    """Answers predict requests with one model.

    directory: the model's, for tracebacks. ends_cut_streams: `on_stream_error: end`, as Truss does.
    """

    def __init__(
        self, runtime: Runtime, lifecycle: Lifecycle, loop: asyncio.AbstractEventLoop, directory: str, config: Config
    ) -> None:
        self.loop = loop
        self.directory = directory
        self.ends_cut_streams = config.on_stream_error == "end"
        self._lifecycle = lifecycle
        self._submit = runtime.submit
        self._route = Route(self.answer)

    def route(self, head: Head) -> Route:
        """The route of requests with this head; its Content-Type is looked at here, once."""
        refused = check_content_type(head.fields.get(b"content-type", JSON))
        if refused is None:
            return self._route
        response = refusal(refused)
        return Route(lambda request: request.connection.send_response(request, response), is_refusal=True)

    def answer(self, request: Request) -> None:
        """Have the model predict; the response follows when it is there."""
        if not self._lifecycle.is_loaded:
            request.connection.send_response(request, NOT_READY)
            return
        try:
            payload = decode_json(request.content)
        except RequestError as error:
            request.connection.send_response(request, refusal(error))
            return
        request.content = b""  # decoded: the bytes need not live as long as the prediction
        request.work = prediction = Prediction(self, request, payload)
        self._submit(prediction)


def check_content_type(value: bytes) -> RequestError | None:
    """A 415 for what cannot be JSON in UTF-8; anything but binary is parsed as JSON, as by Truss."""
    media_type, _, parameters = value.lower().partition(b";")
    if media_type.strip() == OCTET_STREAM:
        return RequestError(415, "application/octet-stream content is not supported; send JSON", _ACCEPT_JSON)
    for parameter in parameters.split(b";"):
        name, _, charset = parameter.strip().partition(b"=")
        if name == b"charset" and charset.strip(b'"') not in (b"utf-8", b"utf8", b"us-ascii"):
            return RequestError(415, "JSON content must be in UTF-8 (RFC 8259 section 8.1)", _ACCEPT_JSON)
    return None


_ACCEPT_JSON: Final = (("Accept", "application/json"),)


class Prediction(Job):
    """One request in the model's hands, and the way its result takes to the connection (messages.Work)."""

    __slots__ = ("_endpoint", "_reply", "_request")

    def __init__(self, endpoint: PredictEndpoint, request: Request, payload: Any) -> None:
        # Job.__init__ is written out: a frame less for each request.
        self.value = payload
        self.error = self.context = self.stream = self.task = None
        self._reply: StreamReply | None = None
        self.is_cancelled = False
        self._endpoint = endpoint
        self._request = request

    # --- called by the model's side ---

    def wants_whole(self) -> bool:
        """Truss's rule: a client that accepts exactly JSON gets a generator's output as one JSON string.

        Not the OpenAI clients, which say so and mean a stream.
        """
        fields = self._request.head.fields
        return fields.get(b"accept") == JSON and b"openai" not in fields.get(b"user-agent", b"").lower()

    def on_result(self) -> None:
        if self.is_cancelled or self.stream is not None:
            return
        request = self._request
        if self.error is None:
            request.connection.send_json(request, self.value)
        else:
            error, self.error = self.error, None  # its traceback holds the frames that hold this
            request.connection.send_response(request, failure(error, self._endpoint.directory))

    def on_chunks(self, stream: Stream) -> None:
        if self._reply is None:
            self._reply = StreamReply(self._endpoint, self._request)
        self._reply.on_chunks(stream)

    # --- called by the connection's side (messages.Work) ---

    def on_disconnect(self) -> None:
        self.cancel()

    def on_writable(self) -> None:
        if self._reply is not None and self.stream is not None:
            self._reply.on_chunks(self.stream)


class StreamReply:
    """A generator's output as one response: its head, its chunks, and how it ends."""

    __slots__ = ("_endpoint", "_has_head", "_head_timer", "_is_over", "_request")

    def __init__(self, endpoint: PredictEndpoint, request: Request) -> None:
        self._endpoint = endpoint
        self._request = request
        self._has_head = False
        self._is_over = False
        self._head_timer = endpoint.loop.call_later(HEAD_DELAY_S, self._send_head)

    def on_chunks(self, stream: Stream) -> None:
        """Send what there is; end the response if the stream has ended."""
        if self._is_over:
            return
        if stream.is_cancelled:
            self._leave(stream)
            return
        request = self._request
        connection = request.connection
        if not stream.is_empty and not self._has_head:
            self._send_head()
        while not stream.is_empty and connection.can_write(request):
            connection.send_chunks(request, stream.take())
        if stream.is_done and stream.is_empty:
            self._end(stream.error)

    def _send_head(self) -> None:
        self._head_timer.cancel()
        self._has_head = True
        self._request.connection.send_head(self._request, _OK_STREAM)

    def _end(self, error: BaseException | None) -> None:
        self._is_over = True
        self._head_timer.cancel()
        request = self._request
        connection = request.connection
        if error is None:
            if not self._has_head:
                self._send_head()
            connection.send_end(request)
        elif not self._has_head:
            connection.send_response(request, failure(error, self._endpoint.directory))
        else:
            # No error response once the status line is out; a cut stream must not look whole (RFC 9112 section 8).
            message = f"Exception while generating streamed response: {text_of(error)}"
            log_failure(error, self._endpoint.directory, message)
            if self._endpoint.ends_cut_streams:
                connection.send_end(request)
            else:
                connection.abort(request)

    def _leave(self, stream: Stream) -> None:
        """The client has gone; what its generator raises on being closed is still worth a line."""
        self._head_timer.cancel()
        if stream.is_done:
            self._is_over = True
            if stream.error is not None:
                log_failure(stream.error, self._endpoint.directory, "Exception in a stream whose client has gone")
