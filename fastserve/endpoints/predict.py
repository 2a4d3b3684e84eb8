"""POST to a method of the model: decode the content, run the model, have the result answered.

Knows the model's one door, not how it runs. One endpoint for predict, one for each OpenAI-style method. Called by the
router.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Final

from fastserve.codec.collector import MIN_BYTES, resting_collector
from fastserve.codec.json_text import (
    decode_as_python,
    decode_json,
    encode_as_python,
    encode_carefully,
    encode_plain,
    refuse_as_python,
)
from fastserve.codec.msgpack_decode import decode_msgpack, refusal_without_msgpack
from fastserve.config import Config
from fastserve.endpoints.failures import NOT_READY, failure, refusal, truss_error
from fastserve.endpoints.marks import FROM_CLIENT
from fastserve.endpoints.prediction import BinaryPrediction, Prediction
from fastserve.endpoints.replies import OK_EVENTS, OK_STREAM, StreamReply
from fastserve.endpoints.user_responses import UserHead
from fastserve.errors import RequestError
from fastserve.lifecycle import Lifecycle
from fastserve.messages import CHUNKED, JSON, OCTET_STREAM, Head, Request, Route
from fastserve.model.runtime import Entry, Runtime
from fastserve.model.typed import Unread


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
        is_fast = config.json == "fast"
        self.encode_plain = encode_plain if is_fast else encode_as_python
        self.encode_carefully = encode_carefully if is_fast else refuse_as_python
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
        self._large_route = Route(self._answer_large)
        self._early_route = Route(self._answer_early)
        self._missing = truss_error(404, FROM_CLIENT, f"`{name}` must only be called if model has it.")
        self._decode = decode_json if is_fast else decode_as_python
        self._binary_route = Route(self.answer_binary)
        self._large_binary_route = Route(self._answer_large_binary)

    def route(self, head: Head) -> Route:
        """The route of requests with this head; its Content-Type is looked at here, once."""
        if not self._lifecycle.is_loaded:
            return self._early_route
        is_binary, refused = read_content_type(head.fields.get(b"content-type", JSON))
        is_large = head.content_length > MIN_BYTES or head.content_length == CHUNKED
        if is_binary:
            return self._large_binary_route if is_large else self._binary_route
        if refused is None or isinstance(self._entry.input_type, Unread):
            return self._large_route if is_large else self._route
        response = refusal(refused)
        return Route(lambda request: request.connection.send_response(request, response), is_refusal=True)

    def _answer_early(self, request: Request) -> None:
        """The head came before it was known what the model takes, and may be repeated when it is."""
        if self._lifecycle.is_loaded:
            request.head.route = self.route(request.head)
            request.head.route.answer(request)
        else:
            request.connection.send_response(request, NOT_READY)

    def answer(self, request: Request, submit: Callable[[Prediction], None] | None = None) -> None:
        """Have the model run on JSON; the response follows when it is there. submit: instead of at once."""
        entry = self._entry
        if not entry.exists:
            request.connection.send_response(request, self._missing)
            return
        checked = entry.input_type
        try:
            payload = self._decode(request.content) if checked is None else checked.parse_json(request.content)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
            self._refuse(request, error)
            return
        request.work = prediction = Prediction(self, request, payload)  # `_run`, written out: a frame less
        if entry.takes_request:
            prediction.let_ask()
        request.content = b""
        (submit or self._submit)(prediction)

    def answer_binary(self, request: Request, submit: Callable[[Prediction], None] | None = None) -> None:
        """Have the model run on application/octet-stream: msgpack, or plain bytes if that is what its input is.

        submit: as above.
        """
        entry = self._entry
        if not entry.exists:
            request.connection.send_response(request, self._missing)
            return
        checked = entry.input_type
        without_msgpack = refusal_without_msgpack()
        if isinstance(checked, Unread):
            kind = Prediction if checked.takes_bytes or without_msgpack else BinaryPrediction
            self._run(request, kind(self, request, checked.parse(request.content)), submit)
            return
        try:
            if without_msgpack is not None:
                raise without_msgpack
            payload = decode_msgpack(request.content)
            payload = payload if checked is None else checked.parse(payload)
        except BaseException as error:  # noqa: BLE001 - as above
            self._refuse(request, error)
            return
        self._run(request, BinaryPrediction(self, request, payload), submit)

    def _answer_large(self, request: Request) -> None:
        """As `answer`, for what may hold a great many values."""
        with resting_collector():
            self.answer(request, self._submit_soon)

    def _answer_large_binary(self, request: Request) -> None:
        with resting_collector():
            self.answer_binary(request, self._submit_soon)

    def _submit_soon(self, prediction: Prediction) -> None:
        """In the next turn of the loop: user code is to find the collector as it was, and the large content freed,
        which those hold who have called us. A reload may come between: it was decoded for the model as it is now.
        """
        self._loop.call_soon(self._entry.reserve(prediction))

    def _run(
        self, request: Request, prediction: Prediction, submit: Callable[[Prediction], None] | None = None
    ) -> None:
        request.work = prediction
        if self._entry.takes_request:
            prediction.let_ask()
        request.content = b""  # decoded: the bytes need not live as long as the prediction
        (submit or self._submit)(prediction)

    def _refuse(self, request: Request, error: BaseException) -> None:
        response = refusal(error) if type(error) is RequestError else failure(error, self.directory)
        request.connection.send_response(request, response)

    def reply_for(self, request: Request, head: UserHead | None) -> StreamReply:
        """The reply that a stream is sent as. head: the model's own choice, if it made one.

        The read timeout and `on_stream_error` are for what a method yields. As in Truss they are not for a response
        object, nor for what postprocess yields (the only generator that a model with postprocess answers with).
        """
        is_yielded = head is None and self._entry.last.name != "postprocess"
        return StreamReply(
            request,
            self._stream_head if head is None else head,
            self._loop,
            self.directory,
            ends_cut_streams=is_yielded and self._ends_cut_streams,
            may_pause=not is_yielded,
        )


@functools.lru_cache(maxsize=64)  # clients repeat the few there are
def read_content_type(content_type: bytes) -> tuple[bool, RequestError | None]:
    """(whether it is octet-stream, the 415 for what cannot be JSON in UTF-8).

    Anything but binary is parsed as JSON, as by Truss.
    """
    media_type, *parameters = content_type.lower().split(b";")
    if media_type.strip() == OCTET_STREAM:
        return True, None
    for parameter in parameters:
        name, _, charset = parameter.strip().partition(b"=")
        if name == b"charset" and charset.strip(b'"') not in (b"utf-8", b"utf8", b"us-ascii"):
            return False, RequestError(415, "JSON content must be in UTF-8 (RFC 8259 section 8.1)", _ACCEPT_JSON)
    return False, None


_ACCEPT_JSON: Final = (("Accept", "application/json"),)
