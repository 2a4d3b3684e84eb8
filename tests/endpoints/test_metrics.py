"""The metrics page alone: what it asks for, and how what comes back is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from fastserve.endpoints.metrics import MetricsPage
from fastserve.gpus import Gpu
from fastserve.lifecycle import Lifecycle
from fastserve.messages import Head, Request
from fastserve.metrics import Metrics
from fastserve.model.runtime import Runtime
from fastserve.model.tally import Tally
from tests.support.responder import RecordingResponder

Outcome = tuple[tuple[bytes, str] | None, BaseException | None]


class FakeRuntime:
    """Answers each scrape with `outcome`, once `released`."""

    in_flight = 3
    queued = 2
    slots = 1
    condition = SimpleNamespace(shortage=SimpleNamespace(total=4), watchdog=None)

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.asked: list[tuple[str, list[str]]] = []
        self.released = asyncio.Event()

    async def scrape(self, accept: str, names: Sequence[str]) -> Outcome:
        self.asked.append((accept, list(names)))
        await self.released.wait()
        return self.outcome

    def tally(self) -> Tally:
        return Tally()

    async def read_gpus(self) -> list[Gpu]:
        return [Gpu(0, "H200", 1, 2, 0.5)]


def scrape(
    outcome: Outcome, target: bytes = b"/metrics", fields: dict[bytes, bytes] | None = None, *, leaves: bool = False
) -> tuple[FakeRuntime, RecordingResponder]:
    async def play() -> tuple[FakeRuntime, RecordingResponder]:
        runtime, responder = FakeRuntime(outcome), RecordingResponder()
        request = Request(Head(b"", b"GET", target, target.partition(b"?")[0], fields or {}), b"", responder)
        MetricsPage(cast(Runtime, runtime), Lifecycle(), Metrics(), "/model").answer(request)
        assert responder.calls == []
        assert request.work is not None
        request.work.on_writable()
        if leaves:
            request.work.on_disconnect()
        runtime.released.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        return runtime, responder

    return asyncio.run(play())


def test_the_page_has_the_type_it_comes_with() -> None:
    runtime, responder = scrape(((b"a 1\n", "text/plain; version=0.0.4"), None))
    assert runtime.asked == [("", [])]
    assert responder.response is not None
    assert responder.response.kind == (200, b"text/plain; version=0.0.4")
    assert responder.content.endswith(b"\na 1\n")
    for line in (b"fastserve_inflight_requests 3", b"fastserve_out_of_memory_total 4"):
        assert b"\n" + line + b"\n" in responder.content
    assert b'\nfastserve_gpu_memory_total_bytes{gpu="0",name="H200"} 2\n' in responder.content


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (b"/metrics?", []),
        (b"/metrics/?name[]=a&name%5B%5D=b&x=y", ["a", "b"]),
        (b"/metrics?name=a&name[]=", []),
        (b"/metrics?%ff[]&;&=&\xff", []),
    ],
)
def test_accept_and_names_are_handed_on(target: bytes, names: list[str]) -> None:
    runtime, _ = scrape(((b"", "text/plain"), None), target, {b"accept": b"text/plain\xff"})
    assert runtime.asked == [("text/plain\xff", names)]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken")])
def test_a_collector_that_raises_is_a_500_and_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    _, responder = scrape((None, error))
    assert responder.response is not None
    assert responder.response.kind[0] == 500
    assert b"X-BASETEN-ERROR-CODE: 600" in responder.response.fields
    assert b"broken" not in responder.content
    assert "Exception while collecting the model's metrics" in caplog.text
    assert "broken" in caplog.text


def test_a_client_that_leaves_is_not_answered() -> None:
    runtime, responder = scrape(((b"", ""), None), leaves=True)
    assert runtime.asked == []  # it left before the asking began
    assert responder.calls == []
