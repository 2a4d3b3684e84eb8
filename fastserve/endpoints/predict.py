"""POST to a method of the model: decode the content, run the model, have the result answered.

Knows the model's one door, not how it runs. One endpoint for predict, one for each OpenAI-style method. Called by the
router.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

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
from fastserve.endpoints.admission import Admission
from fastserve.endpoints.failures import NOT_READY, failure, refusal, truss_error
from fastserve.endpoints.marks import FROM_CLIENT, FROM_SERVER
from fastserve.endpoints.prediction import BinaryPrediction, Prediction
from fastserve.endpoints.replies import OK_EVENTS, OK_STREAM, StreamReply
from fastserve.endpoints.request_timeout import expire_within, read_timeout
from fastserve.endpoints.server_timing import durations, tell_timing, wants_timing
from fastserve.endpoints.user_responses import UserHead
from fastserve.errors import RequestError
from fastserve.lifecycle import Lifecycle
from fastserve.logs import REQUEST_IDS
from fastserve.messages import CHUNKED, JSON, OCTET_STREAM, Head, Request, Response, Route
from fastserve.metrics import NANO, Metrics
from fastserve.model.runtime import Entry, Runtime
from fastserve.model.steps import NEVER
from fastserve.model.typed import Unread

_logger: Final = logging.getLogger("fastserve")

Prepare = Callable[[Prediction], None]
# A `--timeout` shorter than this is kept to the millisecond, by a timer for each request; the sweep, which costs
# nothing, is half a second late at worst: a tenth of it.
HASTY_S: Final = 5.0
# Of the requests that one tick asks, the first alone makes the endpoint learn: less than the time between two ticks.
LEARN_NS: Final = 250_000_000
# So much later than it should a request may begin that only the sweep looks after: it comes twice a second, and what
# it knows of the age of a request is up to half a second short.
SWEEP_S: Final = 1.0


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
        metrics: Metrics,
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
        self.entry = entry
        self._submit = entry.submit
        self._bounds = Admission(config)
        self._most = 0  # until it is known what the model has
        self._full_status = int(config.overload_status)
        self.timeout_ns = round(config.timeout_s / NANO) if config.timeout_s else NEVER
        self.timeout_s = config.timeout_s or math.inf
        self._tells_timing = config.server_timing
        self._slow_ns = round(config.slow_request_s / NANO) if config.slow_request_s else NEVER
        self._hasty_s = config.timeout_s if 0 < config.timeout_s < HASTY_S else None
        self._server_metrics = metrics
        self.metrics = metrics.method(name)
        if config.slow_request_s:
            self.metrics.time_all()
        self.begin_s = math.inf
        self._spare_ns = self._learns_at = 0
        self.learn(0)
        self._route = Route(self.answer, self.metrics)
        self._large_route = Route(self._answer_large, self.metrics, lacks_room=self._lacks_room)
        self._early_route = Route(self._answer_early, self.metrics)
        self._missing = truss_error(404, FROM_CLIENT, f"`{name}` must only be called if model has it.")
        self._decode = decode_json if is_fast else decode_as_python
        self._binary_route = Route(self.answer_binary, self.metrics)
        self._large_binary_route = Route(self._answer_large_binary, self.metrics, lacks_room=self._lacks_room)

    def route(self, head: Head) -> Route:
        """The route of requests with this head; its Content-Type and timeout are looked at here, once."""
        if not self._lifecycle.is_loaded:
            return self._early_route
        is_binary, refused = read_content_type(head.fields.get(b"content-type", JSON))
        if is_binary or isinstance(self.entry.input_type, Unread):
            refused = None
        try:
            timeout_s = read_timeout(head)
        except RequestError as error:
            refused = error
        if refused is not None:
            response = refusal(refused)
            return Route(
                lambda request: request.connection.send_response(request, response), self.metrics, is_refusal=True
            )
        is_large = head.content_length > MIN_BYTES or head.content_length == CHUNKED
        if is_binary:
            route = self._large_binary_route if is_large else self._binary_route
        else:
            route = self._large_route if is_large else self._route
        if timeout_s is None:
            timeout_s = self._hasty_s
        prepare = self._preparation(timeout_s, is_timed=self._tells_timing or wants_timing(head))
        if prepare is None:
            return route
        return route.with_answer(functools.partial(self._answer_timed, route.answer, prepare))

    def _answer_timed(self, answer: Any, prepare: Prepare, request: Request) -> None:
        """answer: one of ours, which take `prepare`."""
        self.metrics.time_next()
        answer(request, prepare)

    def _preparation(self, timeout_s: float | None, *, is_timed: bool) -> Prepare | None:
        """What such a prediction needs before it is submitted; nothing, as a rule."""
        limit = None if timeout_s is None else functools.partial(expire_within, timeout_s, self._loop)
        time = functools.partial(tell_timing, self.entry.steps) if is_timed else None
        if limit is None or time is None:
            return limit or time

        def prepare(prediction: Prediction) -> None:
            limit(prediction)
            time(prediction)

        return prepare

    def _answer_early(self, request: Request) -> None:
        """The head came before it was known what the model takes, and may be repeated when it is."""
        if self._lifecycle.is_loaded:
            self.route(request.head).answer(request)  # what stands before that route, such as CORS, still does
        else:
            self._server_metrics.rejected["not_ready"] += 1
            request.connection.send_response(request, NOT_READY)

    def answer(self, request: Request, prepare: Prepare | None = None, submit: Prepare | None = None) -> None:
        """Have the model run on JSON; the response follows when it is there.

        prepare: called with the prediction before it is submitted. submit: instead of at once.
        """
        entry, metrics = self.entry, self.metrics
        if entry.load.jobs >= self._most:
            self._turn_away(request, "queue_full")
            return
        metrics.untimed -= 1
        if not metrics.untimed:
            prepare = self._timing(prepare)
        checked = entry.input_type
        try:
            payload = self._decode(request.content) if checked is None else checked.parse_json(request.content)
        except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
            self._refuse(request, error)
            return
        # `_run`, written out: a frame less
        request.work = prediction = Prediction(self, request, payload)
        if entry.takes_request:
            prediction.let_ask()
        request.content = b""
        if prepare is not None:
            prepare(prediction)
        (submit or self._submit)(prediction)

    def answer_binary(self, request: Request, prepare: Prepare | None = None, submit: Prepare | None = None) -> None:
        """Have the model run on application/octet-stream: msgpack, or plain bytes if that is what its input is.

        prepare, submit: as above.
        """
        entry, metrics = self.entry, self.metrics
        if entry.load.jobs >= self._most:
            self._turn_away(request, "queue_full")
            return
        metrics.untimed -= 1
        if not metrics.untimed:
            prepare = self._timing(prepare)
        checked = entry.input_type
        without_msgpack = refusal_without_msgpack()
        if isinstance(checked, Unread):
            kind = Prediction if checked.takes_bytes or without_msgpack else BinaryPrediction
            self._run(request, kind(self, request, checked.parse(request.content)), prepare, submit)
            return
        try:
            if without_msgpack is not None:
                raise without_msgpack
            payload = decode_msgpack(request.content)
            payload = payload if checked is None else checked.parse(payload)
        except BaseException as error:  # noqa: BLE001 - as above
            self._refuse(request, error)
            return
        self._run(request, BinaryPrediction(self, request, payload), prepare, submit)

    def _answer_large(self, request: Request, prepare: Prepare | None = None) -> None:
        """As `answer`, for what may hold a great many values."""
        self._take_large(request, self.answer, prepare)

    def _answer_large_binary(self, request: Request, prepare: Prepare | None = None) -> None:
        self._take_large(request, self.answer_binary, prepare)

    def _take_large(
        self,
        request: Request,
        answer: Callable[[Request, Prepare | None, Prepare], None],
        prepare: Prepare | None,
    ) -> None:
        size = len(request.content)
        # Without content, although some was promised: `_lacks_room` has refused it.
        is_refused = not size and request.head.content_length > 0
        if is_refused or (self.entry.exists and not self._bounds.has_room_for(size, self.entry.load)):
            self._turn_away(request, "queue_bytes")
        else:
            with resting_collector():
                answer(request, prepare, functools.partial(self._submit_soon, size))

    def _lacks_room(self, head: Head) -> bool:
        """Whether content of that size would be refused now: then it need not be sent."""
        entry = self.entry
        if head.content_length == CHUNKED or not entry.exists:
            return False
        return entry.load.jobs >= self._most or not self._bounds.has_room_for(head.content_length, entry.load)

    def _submit_soon(self, size: int, prediction: Prediction) -> None:
        """In the next turn of the loop: user code is to find the collector as it was, and the large content freed,
        which those hold who have called us. A reload may come between: it was decoded for the model as it is now.
        """
        prediction.size = size
        self._loop.call_soon(self.entry.reserve(prediction))

    def _run(self, request: Request, prediction: Prediction, prepare: Prepare | None, submit: Prepare | None) -> None:
        request.work = prediction
        if self.entry.takes_request:
            prediction.let_ask()
        request.content = b""  # decoded: the bytes need not live as long as the prediction
        if prepare is not None:
            prepare(prediction)
        (submit or self._submit)(prediction)

    def _timing(self, prepare: Prepare | None) -> Prepare:
        """What times a prediction, from now on, and then prepares it as `prepare` does."""
        arrived = monotonic_ns()

        def time(prediction: Prediction) -> None:
            prediction.time(arrived, self.metrics.begin())
            if prepare is not None:
                prepare(prediction)

        return time

    def fit(self) -> None:
        """Another version of the model serves, which may take more or fewer requests at once."""
        self._most = 0
        if self.entry.exists:
            self._bounds.fit(self.entry.at_once)
            self._most = self._bounds.most

    def _turn_away(self, request: Request, reason: str) -> None:
        """More wait than is allowed: nothing of it has been looked at, so it may be sent again.

        Of what the model has no method for none may.
        """
        if not self.entry.exists:
            request.connection.send_response(request, self._missing)
            return
        self._server_metrics.rejected[reason] += 1
        load = self.entry.load
        retry_s = self._bounds.retry_after_s(load, self.metrics.predicts)
        request.connection.send_response(request, _too_much(self._full_status, load.jobs, retry_s))

    def count_cancelled(self, prediction: Prediction) -> None:
        """The client of `prediction` has left."""
        self._server_metrics.cancelled[self.entry.stage_of(prediction)] += 1

    def note(self, prediction: Prediction, times: list[int]) -> None:
        """One that was timed is over."""
        now = monotonic_ns()
        if self.metrics.note(times, self.entry.predict_at, now, prediction.stands_for) > self._slow_ns:
            self._log_slow(prediction, times, now)

    def _log_slow(self, prediction: Prediction, times: list[int], now: int) -> None:
        """One line for a request that took longer than `--log-slow`."""
        head = prediction.request.head
        parts = durations(self.entry.steps, times, now)
        told = ", ".join(f"{name} {took / 1e6:.1f} ms" for name, took in parts)
        took_s = (now - times[0]) * NANO
        token = REQUEST_IDS.set(prediction.request.ids)
        _logger.warning("slow: %s took %.3f s: %s", head.path.decode("latin-1"), took_s, told)
        REQUEST_IDS.reset(token)

    def count_expired(self, stage: str) -> None:
        self._server_metrics.expired[stage] += 1

    def learn(self, now: int) -> None:
        """Once a tick, while anything is in flight: what predicts take, and so when it is too late to begin one.

        Those who have waited longest are served first: of a queue that is longer than the deadline each would begin
        just in time to be late, and the model work for nobody.
        """
        if now >= self._learns_at:
            self._learns_at = now + LEARN_NS
            self.fit()  # with a `batch_size_of` it shows only by and by how many a batch takes
            self._spare_ns = self._bounds.spare_ns(self.metrics.predicts)
            self.begin_ns = self.time_to_begin_ns(self.timeout_ns)
            if self._hasty_s is None:  # else it is known of each one when it begins
                self.begin_s = self.begin_ns * NANO - SWEEP_S

    def time_to_begin_ns(self, limit_ns: int) -> int:
        """How long after its arrival one may begin who is to be answered within `limit_ns`; at least half of that, or
        nobody would learn when predicts that have taken longer become faster.
        """
        return limit_ns - min(self._spare_ns, limit_ns // 2)

    def _refuse(self, request: Request, error: BaseException) -> None:
        self.metrics.untimed += 1  # it is none of those that the next one stands for
        response = refusal(error) if type(error) is RequestError else failure(error, self.directory)
        request.connection.send_response(request, response)

    def reply_for(self, request: Request, head: UserHead | None) -> StreamReply:
        """The reply that a stream is sent as. head: the model's own choice, if it made one.

        The read timeout and `on_stream_error` are for what a method yields. As in Truss they are not for a response
        object, nor for what postprocess yields (the only generator that a model with postprocess answers with).
        """
        is_yielded = head is None and self.entry.last.name != "postprocess"
        return StreamReply(
            request,
            self._stream_head if head is None else head,
            self._loop,
            self.directory,
            ends_cut_streams=is_yielded and self._ends_cut_streams,
            may_pause=not is_yielded,
        )


@functools.lru_cache(maxsize=64)  # one after the other is the same, at a time when there is none to waste
def _too_much(status: int, jobs: int, retry_s: int) -> Response:
    message = f"too much is waiting ({jobs} requests); try again in {retry_s} s"
    return truss_error(status, FROM_SERVER, message, b"Retry-After: %d\r\n" % retry_s)


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
