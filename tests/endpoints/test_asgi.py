"""Responses that are sent by calling them: whatever they send by ASGI, in whatever order, is one response or none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import pytest
import starlette.background
import starlette.responses

from fastserve.config import Config
from fastserve.endpoints.asgi import AsgiReply, ClientGoneError
from fastserve.endpoints.predict import MethodEndpoint
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Head, Request
from fastserve.metrics import Metrics
from fastserve.model.runtime import Entry, Runtime
from fastserve.model.steps import Job
from fastserve.model.streams import Stream, StreamBudget
from tests.support.entries import FakeEntry
from tests.support.responder import RecordingResponder

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[..., Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"a/b")]}


class FakeRuntime:
    """Runs tasks and opens streams as the real one does, and nothing else."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def run_task(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def open_stream(self, job: Job, *, stops_unread: bool) -> Stream:
        def tell(stream: Stream) -> None:
            asyncio.get_running_loop().call_soon(stream.on_loop)

        stream = job.stream = Stream(job, StreamBudget(100, 1000), tell, stops_unread=stops_unread)
        if job.is_unread:
            job.drop_output(stops=job.is_cancelled)
        stream.announce()
        return stream


class Scene:
    """One request whose result is `app`. On a running loop."""

    def __init__(self, *, takes_request: bool = False) -> None:
        self.runtime = FakeRuntime()
        self.responder = RecordingResponder()
        lifecycle = Lifecycle()
        lifecycle.move_to(State.READY)
        entry = FakeEntry(takes_request=takes_request)
        endpoint = MethodEndpoint(
            "predict",
            cast(Entry, entry),
            cast(Runtime, self.runtime),
            lifecycle,
            asyncio.get_running_loop(),
            "/model",
            Config(),
            Metrics(),
        )
        head = Head(b"", b"POST", b"/predict", b"/predict", {})
        endpoint.answer(Request(head, b"{}", self.responder))
        (self.prediction,) = entry.jobs

    def reply(self, app: App) -> AsgiReply:
        return AsgiReply(self.prediction, app, cast(Runtime, self.runtime), "/model")

    async def settle(self) -> None:
        """Until all tasks are over and what they told the loop has been done."""
        while any(not task.done() for task in self.runtime.tasks):
            await asyncio.wait(self.runtime.tasks)
        for _ in range(3):
            await asyncio.sleep(0)

    @property
    def error(self) -> tuple[int, str]:
        assert self.responder.response is not None
        return self.responder.response.kind[0], json.loads(self.responder.content)["error"]


def body(content: object = b"", *, more: bool | None = None) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, **({} if more is None else {"more_body": more})}


def sending(*messages: dict[str, Any]) -> App:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def play(app: App, *, in_slot: bool = False, takes_request: bool = False) -> Scene:
    """Send `app` to its end."""

    async def run() -> Scene:
        scene = Scene(takes_request=takes_request)
        reply = scene.reply(app)
        await (reply.send_in_slot() if in_slot else reply.run())
        await scene.settle()
        return scene

    return asyncio.run(run())


IN_AND_OUT = pytest.mark.parametrize("in_slot", [False, True])
FAILED = (500, "Internal Server Error (in model/chainlet).")


# --- what is sent ---


def test_one_message_is_a_whole_response() -> None:
    for content in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        scene = play(sending(START, body(content)))
        assert scene.responder.calls == ["response"]
        assert scene.responder.response is not None
        assert (scene.responder.response.kind, scene.responder.content) == ((200, b"a/b"), b"abc")


@pytest.mark.parametrize("length, status", [(b"2", 200), (b"1", 500), (b"3", 500)])
def test_one_message_must_be_as_long_as_it_says(length: bytes, status: int) -> None:
    start = {**START, "headers": [(b"content-length", length)]}
    scene = play(sending(start, body(b"ab")))
    assert scene.responder.response is not None
    assert scene.responder.response.kind[0] == status


def test_a_message_without_a_body_is_an_empty_one() -> None:
    assert play(sending(START, {"type": "http.response.body"})).responder.content == b""


@IN_AND_OUT
def test_several_messages_are_a_stream(in_slot: bool) -> None:
    scene = play(sending(START, body(b"a", more=True), body(b"", more=True), body(b"b")), in_slot=in_slot)
    assert scene.responder.calls[0] == "head"
    assert scene.responder.calls[-1] == "end"
    assert scene.responder.content == b"ab"


def test_in_the_slot_one_message_is_a_stream_too() -> None:
    """Its head may have to go out before that message is there."""
    scene = play(sending(START, body(b"abc")), in_slot=True)
    assert (scene.responder.calls, scene.responder.content) == (["head", "chunks", "end"], b"abc")


def test_more_than_the_buffer_holds_waits_for_the_reader() -> None:
    async def run() -> None:
        scene = Scene()
        scene.responder.is_writable = False
        sending_on = asyncio.create_task(
            scene.reply(sending(START, *[body(b"x" * 40_000, more=True)] * 5, body())).run()
        )
        for _ in range(20):
            await asyncio.sleep(0)
        assert not sending_on.done()
        scene.responder.is_writable = True
        scene.prediction.on_writable()
        await sending_on
        await scene.settle()
        assert len(scene.responder.content) == 200_000
        assert scene.responder.calls[-1] == "end"

    asyncio.run(run())


# --- what is not a response ---


@IN_AND_OUT
@pytest.mark.parametrize(
    "messages",
    [
        [],
        [START],
        [body(b"a")],
        [START, START],
        [{"type": "http.response.pathsend", "path": "/etc/passwd"}],
        [START, {"type": "websocket.send"}],
        [{**START, "status": 99}],
        [{**START, "headers": [(b"a", b"b\r\nc: d")]}],
        [START, body(5, more=True)],
    ],
)
def test_what_is_no_response_is_500(messages: list[dict[str, Any]], in_slot: bool) -> None:
    scene = play(sending(*messages), in_slot=in_slot)
    assert scene.responder.calls == ["response"]
    assert scene.error[0] == 500
    assert scene.error[1].startswith("Unhandled exception: ")


@IN_AND_OUT
@pytest.mark.parametrize("messages", [[{"type": "http.response.start"}], [{}], [{**START, "headers": [5]}], ["text"]])
def test_messages_that_are_not_even_asgi_are_500(messages: list[Any], in_slot: bool) -> None:
    scene = play(sending(*messages), in_slot=in_slot)
    assert (scene.responder.calls, scene.error) == (["response"], FAILED)


def test_a_stream_that_breaks_off_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    scene = play(sending(START, body(b"a", more=True)))
    assert scene.responder.calls == ["head", "chunks", "abort"]
    assert "the response ended before its end" in caplog.text


@IN_AND_OUT
def test_what_is_sent_behind_the_end_is_an_error_of_the_model_s(
    in_slot: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scene = play(sending(START, body(b"a"), body(b"b")), in_slot=in_slot)
    assert scene.responder.content == b"a"
    assert "a response cannot send 'http.response.body' here" in caplog.text


def raising(error: BaseException, *messages: dict[str, Any]) -> App:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await sending(*messages)(scope, receive, send)
        raise error

    return app


@IN_AND_OUT
@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3)])
def test_an_app_that_raises_before_it_sends_is_500(
    in_slot: bool, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    scene = play(raising(error, START), in_slot=in_slot)
    assert (scene.responder.calls, scene.error) == (["response"], FAILED)


def test_one_that_raises_midway_is_cut_and_one_that_raises_afterwards_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = play(raising(ValueError("boom"), START, body(b"a", more=True)))
    assert scene.responder.calls == ["head", "chunks", "abort"]
    assert "Exception while generating streamed response: boom" in caplog.text
    caplog.clear()
    scene = play(raising(ValueError("late"), START, body(b"a")))
    assert scene.responder.calls == ["response"]
    assert "Exception after the response was complete" in caplog.text
    assert "late" in caplog.text


# --- the slot ---


def test_the_slot_is_held_until_all_content_is_produced_and_not_longer() -> None:
    async def run() -> None:
        scene = Scene()
        halves = [asyncio.Event(), asyncio.Event()]
        is_over = False

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            nonlocal is_over
            await send(START)
            await send(body(b"a", more=True))
            await halves[0].wait()
            await send(body(b"b"))
            await halves[1].wait()
            is_over = True

        in_slot = asyncio.create_task(scene.reply(app).send_in_slot())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not in_slot.done()
        halves[0].set()
        await in_slot
        assert not is_over
        halves[1].set()
        await scene.settle()
        assert is_over

    asyncio.run(run())


def test_who_cancels_the_slot_does_not_cancel_the_response() -> None:
    async def run() -> None:
        scene = Scene()
        goes_on = asyncio.Event()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await send(START)
            await goes_on.wait()
            await send(body(b"a"))

        in_slot = asyncio.create_task(scene.reply(app).send_in_slot())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        in_slot.cancel()
        with pytest.raises(asyncio.CancelledError):
            await in_slot
        goes_on.set()
        await scene.settle()
        assert scene.responder.content == b"a"

    asyncio.run(run())


# --- the client leaves ---


class Endless(starlette.responses.StreamingResponse):
    """Streams for ever; `seen` says what happened to it."""

    def __init__(self, seen: list[str], *, fails_to_close: bool = False) -> None:
        self.seen = seen
        self.fails_to_close = fails_to_close
        super().__init__(self.chunks(), background=starlette.background.BackgroundTask(seen.append, "background"))

    async def chunks(self) -> Any:
        try:
            while len(self.seen) < 1000:
                self.seen.append("chunk")
                yield "chunk"
        finally:
            self.seen.append("closed")
            if self.fails_to_close:
                raise ValueError("while closing")


@pytest.mark.parametrize("fails_to_close", [False, True])
def test_when_the_client_leaves_the_iterator_is_closed_and_the_background_task_run(
    fails_to_close: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def run() -> None:
        scene = Scene()
        in_slot = asyncio.create_task(scene.reply(Endless(seen, fails_to_close=fails_to_close)).send_in_slot())
        while "chunks" not in scene.responder.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        scene.prediction.on_disconnect()
        await in_slot
        await scene.settle()
        assert "end" not in scene.responder.calls

    asyncio.run(run())
    assert seen[-2:] == ["closed", "background"]
    assert len(seen) < 100
    assert ("while closing" in caplog.text) == fails_to_close


def test_a_method_that_takes_the_request_is_not_interrupted() -> None:
    seen: list[str] = []

    async def run() -> None:
        scene = Scene(takes_request=True)
        in_slot = asyncio.create_task(scene.reply(Endless(seen)).send_in_slot())
        while "chunks" not in scene.responder.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        scene.prediction.on_disconnect()
        await in_slot
        await scene.settle()

    asyncio.run(run())
    assert seen.count("chunk") > 900
    assert seen[-2:] == ["closed", "background"]


@pytest.mark.parametrize("is_early", [False, True])
def test_receive_tells_of_the_client_s_leaving(is_early: bool, caplog: pytest.LogCaptureFixture) -> None:
    """As sse-starlette listens for it, and ends without another word."""

    async def run() -> None:
        scene = Scene()
        received: list[object] = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await send(START)
            received.append(await receive())

        if is_early:
            scene.prediction.on_disconnect()
        in_slot = asyncio.create_task(scene.reply(app).send_in_slot())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not is_early:
            assert not in_slot.done()
            scene.prediction.on_disconnect()
        await in_slot
        await scene.settle()
        assert received == [{"type": "http.disconnect"}]

    asyncio.run(run())
    assert not caplog.records


def test_receive_tells_the_same_once_the_response_is_complete() -> None:
    received: list[object] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"a"))
        received.append(await receive())

    assert play(app).responder.content == b"a"
    assert received == [{"type": "http.disconnect"}]


def test_send_raises_os_error_as_other_servers_do_once_the_client_has_gone() -> None:
    async def run() -> None:
        scene = Scene()
        scene.prediction.on_disconnect()
        raised: list[BaseException] = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await send(START)
            try:
                await send(body(b"a", more=True))
            except OSError as error:
                raised.append(error)
                raise

        await scene.reply(app).run()
        await scene.settle()
        assert isinstance(raised[0], ClientGoneError)
        assert scene.responder.calls == []

    asyncio.run(run())
