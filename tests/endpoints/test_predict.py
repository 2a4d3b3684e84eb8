"""From request to response and back, with the model's side played by the test."""

from __future__ import annotations

import asyncio
import functools
import gc
from typing import Any, cast

import msgpack
import orjson
import pytest

from fastserve.codec.collector import MIN_BYTES
from fastserve.config import Config
from fastserve.endpoints.predict import MethodEndpoint
from fastserve.endpoints.replies import TURN_S
from fastserve.errors import ResultError
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import CHUNKED, MEANINGFUL, Head, Request
from fastserve.metrics import Metrics
from fastserve.model.runtime import Entry, Runtime
from fastserve.model.streams import TAKE_CHUNKS, Stream, StreamBudget
from fastserve.model.typed import InputType
from tests.support.entries import FakeEntry
from tests.support.responder import RecordingResponder
from tests.support.watched import WatchedFields


class FakeTimer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """`call_later` whose timers fire by hand, `call_soon` too. step: what each look at the clock moves it by."""

    def __init__(self) -> None:
        self.timers: list[tuple[FakeTimer, Any]] = []
        self.now = 0.0
        self.step = 0.0

    def time(self) -> float:
        self.now += self.step
        return self.now

    def call_soon(self, callback: Any, *arguments: Any) -> None:
        self.timers.append((FakeTimer(), functools.partial(callback, *arguments)))

    def call_later(self, delay_s: float, callback: Any) -> FakeTimer:
        timer = FakeTimer()
        self.timers.append((timer, callback))
        return timer

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for timer, callback in timers:
            if not timer.is_cancelled:
                callback()


class Scene:
    """One endpoint, whose runtime hands its jobs to the test."""

    def __init__(
        self,
        *,
        on_stream_error: str = "abort",
        is_loaded: bool = True,
        input_type: InputType | None = None,
        **settings: Any,
    ) -> None:
        self.loop = FakeLoop()
        lifecycle = Lifecycle()
        if is_loaded:
            lifecycle.move_to(State.READY)
        self.entry = FakeEntry(input_type=input_type)
        self.jobs = self.entry.jobs
        self.metrics = Metrics()
        self.endpoint = MethodEndpoint(
            "predict",
            cast(Entry, self.entry),
            cast(Runtime, None),
            lifecycle,
            cast(asyncio.AbstractEventLoop, self.loop),
            "/model",
            Config(on_stream_error=on_stream_error, **settings),
            self.metrics,
        )
        self.responder = RecordingResponder()

    def post(self, content: bytes, fields: dict[bytes, bytes] | None = None, content_length: int = 0) -> Request:
        head = Head(b"", b"POST", b"/predict", b"/predict", fields or {}, content_length=content_length)
        request = Request(head, content, self.responder)
        self.endpoint.route(head).answer(request)
        return request

    def stream(self) -> Stream:
        """A stream for the one job, as a producer on the loop has it."""
        self.post(b"{}")
        (job,) = self.jobs
        job.stream = Stream(job, StreamBudget(100, 1000), lambda stream: stream.on_loop())
        job.stream.announce()
        return job.stream

    @property
    def answer(self) -> tuple[int, Any]:
        assert self.responder.response is not None
        return self.responder.response.kind[0], orjson.loads(self.responder.response.content)


def test_the_payload_goes_to_the_model_and_its_result_comes_back() -> None:
    scene = Scene()
    request = scene.post(b'{"a": 1}')
    (job,) = scene.jobs
    assert job.value == {"a": 1}
    assert request.work is job
    assert request.content == b""
    job.value = b'{"b":2}'
    job.on_result()
    assert scene.answer == (200, {"b": 2})


def test_bad_json_is_400_with_trusss_text_and_fields_and_never_reaches_the_model() -> None:
    scene = Scene()
    scene.post(b"")
    assert scene.answer == (400, {"error": "Invalid JSON payload: Expecting value: line 1 column 1 (char 0)"})
    assert scene.responder.response is not None
    assert scene.responder.response.fields == b"X-BASETEN-ERROR-SOURCE: 04\r\nX-BASETEN-ERROR-CODE: 700\r\n"
    assert not scene.jobs


class WrongError(Exception):
    def errors(self) -> list[dict[str, Any]]:
        return [{"loc": ("a", 1), "msg": "not so"}]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (WrongError, 400, "Input Parsing Error:\n  `a[1]`: not so."),
        (KeyError, 500, "Internal Server Error (in model/chainlet)."),
        (SystemExit, 500, "Internal Server Error (in model/chainlet)."),
    ],
)
def test_a_typed_payload_is_checked_before_the_model_sees_it(
    error: type[BaseException], status: int, message: str
) -> None:
    def validate(value: Any) -> Any:
        if value:
            raise error
        return "checked"

    scene = Scene(input_type=InputType(None, orjson.loads, validate, WrongError))
    scene.post(b'{"a": 1}')
    assert scene.answer == (status, {"error": message})
    assert not scene.jobs
    scene.post(b"{}")
    assert [job.value for job in scene.jobs] == ["checked"]


@pytest.mark.parametrize("content_type", [b"application/json", b"application/octet-stream"])
@pytest.mark.parametrize(
    ("content_length", "rests"), [(0, False), (MIN_BYTES, False), (MIN_BYTES + 1, True), (CHUNKED, True)]
)
def test_the_collector_rests_while_large_content_is_decoded_and_no_longer(
    content_length: int, rests: bool, content_type: bytes
) -> None:
    seen: list[bool] = []

    def validate(value: Any) -> Any:
        seen.append(not gc.isenabled())
        return value

    scene = Scene(input_type=InputType(None, orjson.loads, validate, WrongError))
    content = b'{"a": 1}' if content_type == b"application/json" else msgpack.packb({"a": 1})
    submitted: list[tuple[Any, bool, bytes]] = []
    entry: Any = scene.endpoint.entry

    def submit(job: Any) -> None:
        submitted.append((job.value, gc.isenabled(), job.request.content))

    scene.endpoint._submit, entry.reserve = submit, lambda job: functools.partial(submit, job)
    scene.post(content, {b"content-type": content_type}, content_length=content_length)
    assert seen == [rests]
    assert len(submitted) == (not rests)  # what is large is freed first, by those who hold it on the stack
    scene.loop.fire()
    assert submitted == [({"a": 1}, True, b"")]


def test_large_content_goes_to_the_model_that_it_was_decoded_for_whatever_a_reload_does_meanwhile() -> None:
    scene = Scene()
    scene.post(b"{}", content_length=CHUNKED)
    scene.endpoint.entry.exists = False
    scene.loop.fire()
    assert [job.value for job in scene.jobs] == [{}]


def test_large_json_that_is_none_and_a_method_that_is_not_there_are_refused_alike() -> None:
    scene = Scene()
    scene.post(b"{", content_length=CHUNKED)
    assert scene.answer[0] == 400
    scene.endpoint.entry.exists = False
    scene.endpoint.fit()  # as when another version serves
    scene.post(b"{}", content_length=CHUNKED)
    assert scene.answer == (404, {"error": "`predict` must only be called if model has it."})
    assert not scene.jobs


def test_before_the_model_is_loaded_the_answer_is_503() -> None:
    scene = Scene(is_loaded=False)
    scene.post(b"{}")
    assert scene.answer == (503, {"error": "Model with name model is not ready."})


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/json", 200),
        (b"application/json; charset=utf-8", 200),
        (b'application/json;charset="UTF-8"', 200),
        (b"application/x-www-form-urlencoded", 200),
        (b"text/plain", 200),
        (b"application/json; charset=latin-1", 415),
        (b"application/json; charset=utf-16", 415),
    ],
)
def test_content_that_cannot_be_json_is_415(content_type: bytes, status: int) -> None:
    scene = Scene()
    scene.post(b"{}", {b"content-type": content_type})
    assert len(scene.jobs) == (status == 200)
    if status == 415:
        assert scene.answer[0] == 415
        assert scene.responder.response is not None
        assert b"Accept: application/json\r\n" in scene.responder.response.fields


def test_what_user_code_raised_is_logged_and_not_told_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.post(b"{}")
    (job,) = scene.jobs
    job.error = ValueError("the secret")
    job.on_result()
    assert scene.answer == (500, {"error": "Internal Server Error (in model/chainlet)."})
    assert "the secret" in caplog.text
    assert job.error is None


def test_a_result_that_has_no_json_form_is_500_and_says_why() -> None:
    scene = Scene()
    scene.post(b"{}")
    scene.jobs[0].error = ResultError("TypeError: no such form")
    scene.jobs[0].on_result()
    assert scene.answer == (500, {"error": "Unhandled exception: TypeError: no such form"})


def test_a_coroutine_that_was_cancelled_from_within_is_500() -> None:
    scene = Scene()
    scene.post(b"{}")
    scene.jobs[0].error = asyncio.CancelledError()
    scene.jobs[0].on_result()
    assert scene.answer[0] == 500


def test_nothing_is_answered_once_the_client_has_gone() -> None:
    scene = Scene()
    scene.post(b"{}")
    (job,) = scene.jobs
    job.on_disconnect()
    job.on_writable()
    job.on_result()
    assert job.is_cancelled
    assert not scene.responder.calls


@pytest.mark.parametrize(
    ("fields", "wants"),
    [
        ({}, False),
        ({b"accept": b"application/json"}, True),
        ({b"accept": b"application/json, */*"}, False),
        ({b"accept": b"application/json", b"user-agent": b"OpenAI/Python 1.0"}, False),
        ({b"accept": b"application/json", b"user-agent": b"curl"}, True),
    ],
)
def test_the_gather_rule_is_an_exact_match(fields: dict[bytes, bytes], wants: bool) -> None:
    scene = Scene()
    scene.post(b"{}", fields)
    assert scene.jobs[0].wants_whole() is wants


def test_the_head_of_a_stream_goes_out_with_its_first_chunk() -> None:
    scene = Scene()
    stream = scene.stream()
    assert scene.responder.calls == []
    stream.put("é")
    assert scene.responder.calls == ["head", "chunks"]
    stream.put(b"b")
    stream.end()
    assert scene.responder.calls == ["head", "chunks", "chunks", "end"]
    assert scene.responder.content == "éb".encode()
    scene.loop.fire()
    scene.jobs[0].on_result()
    assert scene.responder.calls[-1] == "end"


def test_the_head_of_a_slow_stream_goes_out_alone() -> None:
    scene = Scene()
    stream = scene.stream()
    scene.loop.fire()
    assert scene.responder.calls == ["head"]
    stream.put(b"a")
    stream.end()
    assert scene.responder.calls == ["head", "chunks", "end"]


def test_a_generator_that_yields_nothing_is_an_empty_answer() -> None:
    scene = Scene()
    scene.stream().end()
    assert scene.responder.calls == ["head", "end"]


def test_a_generator_that_fails_before_its_first_chunk_is_a_500() -> None:
    scene = Scene()
    scene.stream().end(ValueError("boom"))
    assert scene.answer[0] == 500
    assert scene.responder.calls == ["response"]
    scene.loop.fire()
    assert scene.responder.calls == ["response"]


@pytest.mark.parametrize(("on_stream_error", "last"), [("abort", "abort"), ("end", "end")])
def test_a_generator_that_fails_midway_is_cut_or_ended_as_the_option_says(
    on_stream_error: str, last: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(on_stream_error=on_stream_error)
    stream = scene.stream()
    stream.put(b"a")
    stream.end(ValueError("boom"))
    assert scene.responder.calls == ["head", "chunks", last]
    assert caplog.text.count("Exception while generating streamed response: boom") == 1


def test_chunks_wait_while_the_client_does_not_read() -> None:
    scene = Scene()
    stream = scene.stream()
    scene.responder.is_writable = False
    assert stream.put(b"a" * 60)
    assert stream.put(b"b" * 60_000)
    stream.end()
    assert scene.responder.calls == ["head"]
    scene.responder.is_writable = True
    scene.jobs[0].on_writable()
    assert scene.responder.calls == ["head", "chunks", "end"]
    assert scene.responder.content == b"a" * 60 + b"b" * 60_000


def test_a_stream_that_is_far_ahead_of_its_client_is_sent_over_several_turns_of_the_loop() -> None:
    scene = Scene()
    stream = scene.stream()
    scene.responder.is_writable = False
    chunks = [b"%d " % number for number in range(3 * TAKE_CHUNKS)]
    for chunk in chunks:
        stream.put(chunk)
    stream.end()
    scene.responder.is_writable = True
    scene.loop.step = 0.6 * TURN_S  # so that there is time for one write
    for sent in (["head", "chunks"], ["head", "chunks", "chunks"]):
        scene.jobs[0].on_writable()  # the second time it does not make it go faster
        assert scene.responder.calls == sent
        scene.loop.fire()
    assert scene.responder.calls == ["head", "chunks", "chunks", "chunks", "end"]
    assert scene.responder.content == b"".join(chunks)


def test_a_stream_whose_client_has_gone_sends_nothing_and_logs_what_its_end_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    stream = scene.stream()
    stream.put(b"a")
    scene.jobs[0].on_disconnect()
    stream.put(b"b")
    stream.end(ValueError("while closing"))
    stream.announce()
    assert scene.responder.calls == ["head", "chunks"]
    assert caplog.text.count("Exception in a stream whose client has gone") == 1


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise ValueError("not to be shown")


class UntouchableError(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise ValueError("not to be asked, not even for its __class__")


@pytest.mark.parametrize("kind", [UnshowableError, UntouchableError])
def test_an_exception_that_cannot_be_shown_still_ends_its_request(kind: type[Exception]) -> None:
    scene = Scene()
    scene.post(b"{}")
    scene.jobs[0].error = kind()
    scene.jobs[0].on_result()
    assert scene.answer[0] == 500
    scene = Scene()
    stream = scene.stream()
    stream.put(b"a")
    stream.end(kind())
    assert scene.responder.calls == ["head", "chunks", "abort"]


def test_no_other_field_bears_on_the_route_than_those_said_to() -> None:
    fields = WatchedFields({b"content-type": b"application/json", b"accept": b"application/json"})
    head = Head(b"", b"POST", b"/predict", b"/predict", fields)
    fields.asked.clear()
    Scene().endpoint.route(head)
    assert fields.asked == {b"content-type", b"x-request-timeout", b"x-server-timing"}
    assert fields.asked <= MEANINGFUL
