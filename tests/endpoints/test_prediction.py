"""One request in the model's hands: what its methods get, what becomes of every result, what if nobody waits."""

from __future__ import annotations

import asyncio
import sys
from types import AsyncGeneratorType, GeneratorType, SimpleNamespace
from typing import Any, cast

import fastapi
import orjson
import pytest
import starlette.requests
import starlette.responses

import fastserve
from fastserve.config import Config
from fastserve.endpoints.asgi import AsgiReply
from fastserve.endpoints.predict import MethodEndpoint
from fastserve.endpoints.prediction import Prediction
from fastserve.errors import ResultError
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Head, Request, Response
from fastserve.metrics import Metrics
from fastserve.model.contract import Kind, Method, Takes
from fastserve.model.runtime import Entry, Runtime
from fastserve.model.steps import Hall
from fastserve.model.streams import Stream, StreamBudget
from fastserve.model.typed import Unread
from tests.support.entries import FakeEntry
from tests.support.responder import RecordingResponder


class FakeTimer:
    def cancel(self) -> None: ...


class FakeLoop:
    """Whose timers fire by hand, and what is called soon is called at once."""

    def __init__(self) -> None:
        self.timers: list[Any] = []
        self.delays_s: list[float] = []

    def call_later(self, delay_s: float, callback: Any) -> FakeTimer:
        self.timers.append(callback)
        self.delays_s.append(delay_s)
        return FakeTimer()

    def call_soon(self, callback: Any, *arguments: Any) -> None:
        callback(*arguments)

    def time(self) -> float:
        return 0.0


class Scene:
    """One endpoint, and the hall that opens streams for its predictions."""

    def __init__(
        self, name: str = "predict", *, takes_request: bool = False, reads_content: bool = True, **settings: Any
    ) -> None:
        self.entry = FakeEntry(
            name, takes_request=takes_request, input_type=None if reads_content else Unread(takes_bytes=False)
        )
        self.metrics = Metrics()
        self.loop = FakeLoop()
        self.lifecycle = Lifecycle()
        self.endpoint = MethodEndpoint(
            name,
            cast(Entry, self.entry),
            cast(Runtime, None),
            self.lifecycle,
            cast(asyncio.AbstractEventLoop, self.loop),
            "/model",
            Config(**settings),
            self.metrics,
        )
        self.hall = Hall(cast(asyncio.AbstractEventLoop, self.loop), StreamBudget(100, 1000), lambda job: None)
        self.responder = RecordingResponder()

    def ready(self) -> Scene:
        self.lifecycle.move_to(State.READY)
        return self

    def post(self, content: bytes = b"{}", **fields: bytes) -> Prediction:
        head = Head(b"", b"POST", b"/predict?a=1", b"/predict", {k.encode(): v for k, v in fields.items()})
        head.route = self.endpoint.route(head)
        head.route.answer(Request(head, content, self.responder))
        return self.entry.jobs[-1]

    def stream(self, prediction: Prediction, *, stops_unread: bool = True) -> Stream:
        return self.hall.open_stream(prediction, on_loop=True, stops_unread=stops_unread)


# --- what the methods get ---


def test_all_methods_get_the_same_request_for_the_same_class() -> None:
    prediction = Scene(takes_request=True).ready().post(b'{"a": 1}')
    assert prediction.value == {"a": 1}
    request = prediction.request_as(starlette.requests.Request)
    assert prediction.request_as(starlette.requests.Request) is request
    assert prediction.request_as(fastapi.Request) is request
    ours = prediction.request_as(fastserve.Request)
    assert prediction.request_as(fastserve.Request) is ours
    assert asyncio.run(request.json()) == asyncio.run(ours.json()) == {"a": 1}
    assert ours.client == request.client == ("127.0.0.1", 50000)


class OwnRequest(starlette.requests.Request): ...


class OursToo(fastserve.Request): ...


def test_of_another_class_it_is_another_object_with_the_same_state() -> None:
    prediction = Scene(takes_request=True).ready().post()
    request, own = prediction.request_as(starlette.requests.Request), prediction.request_as(OwnRequest)
    assert type(own) is OwnRequest
    request.state.mine = 5
    assert own.state.mine == 5
    assert type(prediction.request_as(OursToo)) is OursToo


def test_without_a_method_that_takes_it_nothing_is_made() -> None:
    prediction = Scene().ready().post()
    assert (prediction.asked, prediction.disconnection) == (None, None)
    assert prediction.request.content == b""


def test_a_method_that_takes_only_the_request_may_get_any_content() -> None:
    scene = Scene(takes_request=True, reads_content=False).ready()
    for fields in ({}, {"content-type": b"application/octet-stream"}, {"content-type": b"text/plain; charset=x"}):
        prediction = scene.post(b"\xff{", **fields)
        assert prediction.value is None
        assert asyncio.run(prediction.request_as(fastserve.Request).body()) == b"\xff{"
    assert scene.responder.calls == []


def test_a_head_from_before_the_model_was_loaded_is_routed_anew_afterwards() -> None:
    scene = Scene(takes_request=True, reads_content=False)
    head = Head(b"", b"POST", b"/predict", b"/predict", {b"content-type": b"application/octet-stream"})
    head.route = early = scene.endpoint.route(head)
    head.route.answer(Request(head, b"\xff", scene.responder))
    assert scene.responder.response is not None
    assert scene.responder.response.kind[0] == 503
    scene.ready()
    head.route.answer(Request(head, b"\xff", scene.responder))
    assert scene.entry.jobs[0].value is None
    assert head.route is early  # which is CORS's, if that is asked for


# --- who asks whether the client has gone ---


def test_who_takes_the_request_is_told_that_the_client_has_left() -> None:
    prediction = Scene(takes_request=True).ready().post()
    request = prediction.request_as(fastserve.Request)
    with request.state.watch_disconnect() as left:
        prediction.on_disconnect()
        assert left.is_set()
    assert asyncio.run(request.is_disconnected())


@pytest.mark.parametrize("outcome", ["value", "response", "error", "stream"])
def test_and_that_the_answer_is_complete_which_ends_what_goes_on_asking(outcome: str) -> None:
    scene = Scene(takes_request=True).ready()
    prediction = scene.post()
    request = prediction.request_as(starlette.requests.Request)
    assert not asyncio.run(request.is_disconnected())
    prediction.value = Response((200, b""), b"") if outcome == "response" else b"{}"
    if outcome == "error":
        prediction.error = ValueError()
    if outcome == "stream":
        scene.stream(prediction).end()
    prediction.on_result()
    assert asyncio.run(request.is_disconnected())


# --- what becomes of results ---


def content_of(response: Response) -> bytes:
    return b"".join([response.content, *response.pieces])


def encoded(value: object) -> Any:
    prediction = Scene().ready().post()
    prediction.value = value
    return prediction.encode()


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ({"a": [1, None, "\xe9"]}, '{"a":[1,null,"\xe9"]}'.encode()),
        (None, b"null"),
        ({1: 2}, b'{"1":2}'),
        (2**70, b"1180591620717411303424"),
        ((1, 2), b"[1,2]"),
    ],
)
def test_what_has_a_json_form_is_json(value: object, content: bytes) -> None:
    assert encoded(value) == content


@pytest.mark.parametrize("value", [b"\xff", bytearray(b"\xff"), memoryview(b"\xff")])
def test_bytes_are_sent_as_they_are(value: object) -> None:
    response = encoded(value)
    assert isinstance(response, Response)
    assert (response.kind, content_of(response)) == ((200, b"application/octet-stream"), b"\xff")


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": fastserve.Response()}, iter([1]), ValueError("a")])
def test_what_has_no_form_is_a_result_error(value: object) -> None:
    with pytest.raises(ResultError):
        encoded(value)


def test_whole_responses_are_messages() -> None:
    for value in (fastserve.Response("a", 201), starlette.responses.Response("a", 201)):
        response = encoded(value)
        assert isinstance(response, Response)
        assert (response.kind[0], content_of(response)) == (201, b"a")


def test_what_only_starlette_can_send_is_left_to_it_streams_within_the_slot() -> None:
    assert isinstance(encoded(starlette.responses.FileResponse("/etc/hostname")), AsgiReply)
    sending = encoded(starlette.responses.StreamingResponse([]))
    assert asyncio.iscoroutine(sending)
    sending.close()


class Iterated:
    def __iter__(self) -> Any:
        return iter(["a", "b"])


class AsyncIterated:
    def __init__(self) -> None:
        self.left = ["b", "a"]

    def __aiter__(self) -> AsyncIterated:
        return self

    async def __anext__(self) -> str:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop()


@pytest.mark.parametrize("content", [["a", "b"], iter("ab"), "ab", (c for c in "ab"), Iterated(), {"a": 1, "b": 2}])
def test_whatever_can_be_iterated_is_a_stream_of_ours(content: Any) -> None:
    prediction = Scene().ready().post()
    prediction.value = fastserve.StreamingResponse(content, 202, {"X-Name": "a"}, "a/b")
    generator = prediction.encode()
    assert type(generator) is GeneratorType
    assert list(generator) == ["a", "b"]
    assert prediction.stream_head is not None
    assert prediction.stream_head.response.kind == (202, b"a/b")
    assert not prediction.wants_whole()


def test_whatever_can_be_awaited_is_one_too() -> None:
    async def collect(generator: Any) -> list[str]:
        return [item async for item in generator]

    async def items() -> Any:
        yield "a"
        yield "b"

    for content in (AsyncIterated(), items()):
        generator = encoded(fastserve.StreamingResponse(content))
        assert type(generator) is AsyncGeneratorType
        assert asyncio.run(collect(generator)) == ["a", "b"]


def test_what_cannot_be_iterated_is_an_error_of_the_model_s() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        encoded(fastserve.StreamingResponse(5))  # type: ignore[arg-type]


def test_starlette_is_looked_for_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "starlette.responses")
    with pytest.raises(ResultError):
        encoded(starlette.responses.Response())
    assert "starlette.responses" not in sys.modules


def test_only_predict_gathers() -> None:
    for name, gathers in (("predict", True), ("chat_completions", False)):
        prediction = Scene(name).ready().post(accept=b"application/json")
        assert prediction.wants_whole() is gathers


@pytest.mark.parametrize(
    ("name", "content_type"), [("predict", b"application/octet-stream"), ("messages", b"text/event-stream")]
)
def test_the_type_of_a_generator_s_output(name: str, content_type: bytes) -> None:
    scene = Scene(name).ready()
    scene.stream(scene.post()).put("a")
    assert scene.responder.response is not None
    assert scene.responder.response.kind == (200, content_type)


# --- streams that a model gave a head ---


def streamed(scene: Scene, status: int, **headers: str) -> Stream:
    prediction = scene.post()
    prediction.value = fastserve.StreamingResponse([], status, {k.replace("_", "-"): v for k, v in headers.items()})
    prediction.encode()
    return scene.stream(prediction)


def test_a_length_that_the_model_gave_is_sent_and_kept_to() -> None:
    scene = Scene().ready()
    stream = streamed(scene, 200, content_length="3")
    stream.put("ab")
    stream.put("c")
    stream.end()
    assert scene.responder.calls == ["head", "chunks", "chunks", "end"]
    assert scene.responder.length == 3


@pytest.mark.parametrize(("chunk", "why"), [("a", "2 bytes less than"), ("abcd", "more content than")])
@pytest.mark.parametrize("on_stream_error", ["abort", "end"])
def test_one_that_is_wrong_cuts_the_stream_whatever_the_option(
    chunk: str, why: str, on_stream_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(on_stream_error=on_stream_error).ready()
    stream = streamed(scene, 200, content_length="3")
    stream.put(chunk)
    if not stream.is_cancelled:
        stream.end()
    assert scene.responder.calls[0] == "head"
    assert scene.responder.calls[-1] == "abort"
    assert len(scene.responder.content) <= 3
    assert f"{why} its Content-Length of 3" in caplog.text
    assert stream.must_stop or stream.is_done


@pytest.mark.parametrize(("name", "last"), [("predict", "end"), ("postprocess", "abort")])
def test_the_option_end_is_for_what_a_method_yields_not_for_a_response_nor_for_postprocess(
    name: str, last: str
) -> None:
    scene = Scene(on_stream_error="end").ready()
    scene.entry.last = Method(name, Kind.SYNC, print, Takes.INPUTS)
    for stream, expected in ((scene.stream(scene.post()), last), (streamed(scene, 200), "abort")):
        scene.responder.calls.clear()
        stream.put("a")
        stream.end(ValueError("late"))
        assert scene.responder.calls == ["head", "chunks", expected]


@pytest.mark.parametrize("has_timer_fired", [False, True])
@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_ends_with_its_head_and_stops_the_producer(
    status: int, has_timer_fired: bool
) -> None:
    scene = Scene().ready()
    stream = streamed(scene, status)
    if has_timer_fired:
        scene.loop.timers[0]()
        assert scene.responder.calls == ["response"]
    stream.put("a")
    assert scene.responder.calls == ["response"]
    assert stream.must_stop
    stream.end()
    assert scene.responder.calls == ["response"]


@pytest.mark.parametrize("status", [204, 304])
def test_one_that_yields_nothing_is_whole(status: int) -> None:
    scene = Scene().ready()
    streamed(scene, status).end()
    assert scene.responder.calls == ["response"]


@pytest.mark.parametrize(
    ("headers", "is_told"),
    [
        ({"content_type": "text/event-stream; charset=utf-8"}, True),
        ({"content_type": "text/plain"}, False),
        ({"content_type": "text/event-stream", "content_length": "5"}, False),  # there is no room for it
    ],
)
def test_an_event_source_is_told_that_its_stream_was_cut(headers: dict[str, str], is_told: bool) -> None:
    scene = Scene().ready()
    stream = streamed(scene, 200, **headers)
    stream.put("data: part")
    if not stream.is_cancelled:
        stream.end(ValueError("secret"))
    assert scene.responder.calls[-1] == "abort"
    event = b'\n\nevent: error\ndata: {"error":"Internal Server Error (in model/chainlet)."}\n\n'
    assert scene.responder.content.endswith(event) is is_told
    assert b"secret" not in scene.responder.content


def test_an_http_error_before_the_first_chunk_is_the_answer_whatever_head_there_would_have_been() -> None:
    scene = Scene().ready()
    streamed(scene, 200, x_name="a").end(fastserve.HTTPError(429, "later", {"Retry-After": "5"}))
    assert scene.responder.calls == ["response"]
    assert scene.responder.response is not None
    assert scene.responder.response.kind[0] == 429
    assert orjson.loads(scene.responder.content) == {"error": "later"}
    assert b"Retry-After: 5\r\n" in scene.responder.response.fields
    assert b"x-name" not in scene.responder.response.fields


# --- nobody waits any more ---


@pytest.mark.parametrize("policy", ["streams", "all", "none"])
@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("stops_unread", [False, True])
def test_a_stream_is_dropped_and_its_generator_stopped_as_the_option_says(
    policy: str, is_early: bool, stops_unread: bool
) -> None:
    scene = Scene(cancel_on_disconnect=policy).ready()
    prediction = scene.post()
    if is_early:
        prediction.on_disconnect()
    stream = scene.stream(prediction, stops_unread=stops_unread)
    if not is_early:
        prediction.on_disconnect()
    for _ in range(100):
        assert stream.put(b"x" * 10_000), "it would wait for room for ever"
    assert (stream.is_empty, stream.must_stop) == (True, policy != "none" and stops_unread)
    stream.end()
    prediction.on_result()
    assert scene.responder.calls == []
    assert prediction.is_cancelled == (policy != "none")


def test_a_generator_that_was_cancelled_for_it_is_not_worth_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(cancel_on_disconnect="all").ready()
    prediction = scene.post()
    stream = scene.stream(prediction)
    prediction.on_disconnect()
    stream.end(asyncio.CancelledError())
    prediction.error = asyncio.CancelledError()
    prediction.on_result()
    assert not caplog.records


def test_what_a_method_raised_meanwhile_is(caplog: pytest.LogCaptureFixture) -> None:
    prediction = Scene().ready().post()
    prediction.on_disconnect()
    prediction.error = ValueError("unheard")
    prediction.on_result()
    assert "unheard" in caplog.text
    assert prediction.error is None


class FakeTask:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def get_coro(self) -> Any:
        return SimpleNamespace(cr_running=True)  # it has begun


@pytest.mark.parametrize(
    ("policy", "is_shielded", "is_cancelled"),
    [("streams", False, False), ("none", False, False), ("all", False, True), ("all", True, False)],
)
def test_a_coroutine_is_cancelled_only_if_all_is_and_it_has_no_request_to_ask(
    policy: str, is_shielded: bool, is_cancelled: bool
) -> None:
    prediction = Scene(cancel_on_disconnect=policy).ready().post()
    task = FakeTask()
    prediction.task = cast("asyncio.Task[None]", task)
    prediction.is_shielded = is_shielded
    prediction.on_disconnect()
    assert task.is_cancelled is is_cancelled
