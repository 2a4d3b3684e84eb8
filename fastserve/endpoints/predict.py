"""POST to predict: decode the content, run the model, encode what it returned.

Knows the model's one door, not how it runs; knows responses, not sockets. Called by the router.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from fastserve.codec import decode_json
from fastserve.config import Config
from fastserve.endpoints.failures import NOT_READY, failure, log_failure, refusal
from fastserve.errors import RequestError
from fastserve.lifecycle import Lifecycle
from fastserve.messages import JSON, OCTET_STREAM, Head, Request, Response
from fastserve.model.runtime import Runtime
from fastserve.model.steps import Job
from fastserve.model.streams import Stream

_logger: Final = logging.getLogger("fastserve")

_OK_JSON: Final = (200, JSON)
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
        self.runtime = runtime
        self.loop = loop
        self.directory = directory
        self.ends_cut_streams = config.on_stream_error == "end"
        self._lifecycle = lifecycle

    def answer(self, request: Request) -> None:
        """Have the model predict; the response follows when it is there."""
        if not self._lifecycle.is_loaded:
            request.connection.send_response(request, NOT_READY)
            return
        fields = request.head.fields
        try:
            if fields.get(b"content-type", JSON) != JSON:
                check_content_type(fields[b"content-type"])
            payload = decode_json(request.content)
        except RequestError as error:
            request.connection.send_response(request, refusal(error))
            return
        request.content = b""  # decoded: the bytes need not live as long as the prediction
        prediction = Prediction(self, request, payload)
        request.work = prediction
        self.runtime.submit(prediction)


def check_content_type(value: bytes) -> None:
    """Anything but binary is parsed as JSON, as by Truss. Raises RequestError 415 for what then cannot be right."""
    media_type, _, parameters = value.lower().partition(b";")
    if media_type.strip() == OCTET_STREAM:
        raise RequestError(415, "application/octet-stream content is not supported; send JSON", _ACCEPT_JSON)
    for parameter in parameters.split(b";"):
        name, _, charset = parameter.strip().partition(b"=")
        if name == b"charset" and charset.strip(b'"') not in (b"utf-8", b"utf8", b"us-ascii"):
            raise RequestError(415, "JSON content must be in UTF-8 (RFC 8259 section 8.1)", _ACCEPT_JSON)


_ACCEPT_JSON: Final = (("Accept", "application/json"),)


def wants_whole(head: Head) -> bool:
    """Truss's rule: a client that accepts exactly JSON gets a generator's output as one JSON string.

    Not the OpenAI clients, which say so and mean a stream.
    """
    fields = head.fields
    return fields.get(b"accept") == JSON and b"openai" not in fields.get(b"user-agent", b"").lower()


class Prediction(Job):
    """One request in the model's hands, and the way its result takes to the connection (messages.Work)."""

    __slots__ = ("_endpoint", "_has_head", "_head_timer", "_is_over", "_request")

    def __init__(self, endpoint: PredictEndpoint, request: Request, payload: Any) -> None:
        super().__init__(payload, wants_whole=wants_whole(request.head))
        self._endpoint = endpoint
        self._request = request
        self._has_head = False
        self._is_over = False  # the stream has been ended, cut, or answered with an error
        self._head_timer: asyncio.TimerHandle | None = None

    # --- called by the model's side ---

    def on_result(self) -> None:
        if self.is_cancelled or self.stream is not None:
            return
        request = self._request
        if self.error is None:
            request.connection.send_response(request, Response(_OK_JSON, self.value))
        else:
            request.connection.send_response(request, failure(self.error, self._endpoint.directory))

    def on_chunks(self, stream: Stream) -> None:
        if self.is_cancelled:
            if stream.error is not None:
                log_failure(stream.error, self._endpoint.directory, "Exception in a stream whose client has gone")
            return
        if self._is_over or (not self._has_head and not self._begin(stream)):
            return
        request = self._request
        connection = request.connection
        while not stream.is_empty and connection.can_write(request):
            connection.send_chunks(request, stream.take())
        if stream.is_done and stream.is_empty:
            self._end(stream.error)

    # --- called by the connection's side (messages.Work) ---

    def on_disconnect(self) -> None:
        self._cancel_timer()
        self.cancel()

    def on_writable(self) -> None:
        if self.stream is not None:
            self.on_chunks(self.stream)

    # --- the head of a stream, and its end ---

    def _begin(self, stream: Stream) -> bool:
        """Send the head if its time has come; returns whether it has been sent."""
        request = self._request
        if stream.is_empty and not stream.is_done:
            if self._head_timer is None:
                self._head_timer = self._endpoint.loop.call_later(HEAD_DELAY_S, self._send_head)
            return False
        if stream.is_empty and stream.error is not None:
            self._is_over = True
            self._cancel_timer()
            request.connection.send_response(request, failure(stream.error, self._endpoint.directory))
            return False
        self._send_head()
        return True

    def _send_head(self) -> None:
        self._cancel_timer()
        self._has_head = True
        self._request.connection.send_head(self._request, _OK_STREAM)

    def _end(self, error: BaseException | None) -> None:
        request = self._request
        self._is_over = True
        if error is not None:
            # No error response once the status line is out; a cut stream must not look whole (RFC 9112 section 8).
            message = f"Exception while generating streamed response: {error}"
            log_failure(error, self._endpoint.directory, message)
            if not self._endpoint.ends_cut_streams:
                request.connection.abort(request)
                return
        request.connection.send_end(request)

    def _cancel_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
