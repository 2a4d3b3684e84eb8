"""POST to a method of the model: decode the content, run the model, have the result answered.

Knows the model's one door, not how it runs. One endpoint for predict, one for each OpenAI-style method. Called by the
router.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fastserve.codec import decode_json, encode_carefully, encode_plain
from fastserve.config import Config
from fastserve.endpoints.failures import FROM_CLIENT, NOT_READY, refusal, truss_error
from fastserve.endpoints.prediction import Prediction
from fastserve.endpoints.replies import OK_EVENTS, OK_STREAM, StreamReply
from fastserve.endpoints.user_responses import UserHead
from fastserve.errors import RequestError
from fastserve.lifecycle import Lifecycle
from fastserve.messages import JSON, OCTET_STREAM, Head, Request, Route
from fastserve.model.runtime import Entry, Runtime


class MethodEndpoint:
    """Answers requests with one method of the model.

    name: the method's. encode_plain: a result as JSON; raises TypeError for what needs more care.
    gathers: Truss's rule for clients that accept only JSON applies. directory: the model's, for tracebacks.
    """

    def __init__(
        self,
        name: str,
        entry: Entry,
        runtime: Runtime,
        lifecycle: Lifecycle,
        loop: asyncio.AbstractEventLoop,
        directory: str,
        config: Config,
    ) -> None:
        self.runtime = runtime
        self.directory = directory
        self.encode_plain = encode_plain
        self.encode_carefully = encode_carefully
        self.cancel_on_disconnect = config.cancel_on_disconnect
        self.gathers = name == "predict"
        self.loses_error_headers = "lost-headers" in config.truss_quirks
        self._loop = loop
        self._ends_cut_streams = config.on_stream_error == "end"
        # What the OpenAI-style methods yield is server-sent events, for which proxies and browsers look at the type.
        self._stream_head = OK_STREAM if name == "predict" else OK_EVENTS
        self._lifecycle = lifecycle
        self._entry = entry
        self._submit = entry.submit
        self._route = Route(self.answer)
        self._early_route = Route(self._answer_early)
        self._missing = truss_error(404, FROM_CLIENT, f"`{name}` must only be called if model has it.")
        self._decode: Callable[[bytes], Any] = decode_json

    def route(self, head: Head) -> Route:
        """The route of requests with this head; its Content-Type is looked at here, once."""
        if not self._lifecycle.is_loaded:
            return self._early_route
        refused = check_content_type(head.fields.get(b"content-type", JSON))
        if refused is None or not self._entry.reads_content:
            return self._route
        response = refusal(refused)
        return Route(lambda request: request.connection.send_response(request, response), is_refusal=True)

    def _answer_early(self, request: Request) -> None:
        """The head came before it was known what the model takes, and may be repeated when it is."""
        if self._lifecycle.is_loaded:
            request.head.route = self.route(request.head)
            request.head.route.answer(request)
        else:
            request.connection.send_response(request, NOT_READY)

    def answer(self, request: Request) -> None:
        """Have the model run; the response follows when it is there."""
        entry = self._entry
        if not self._lifecycle.is_loaded:
            request.connection.send_response(request, NOT_READY)
            return
        if not entry.exists:
            request.connection.send_response(request, self._missing)
            return
        try:
            payload = self._decode(request.content) if entry.reads_content else None
        except RequestError as error:
            request.connection.send_response(request, refusal(error))
            return
        request.work = prediction = Prediction(self, request, payload)
        if entry.takes_request:
            prediction.let_ask()
        request.content = b""  # decoded: the bytes need not live as long as the prediction
        self._submit(prediction)

    def reply_for(self, request: Request, head: UserHead | None) -> StreamReply:
        """The reply that a stream is sent as. head: the model's own choice, if it made one."""
        return StreamReply(
            request,
            self._stream_head if head is None else head,
            self._loop,
            self.directory,
            ends_cut_streams=self._ends_cut_streams,
        )


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
