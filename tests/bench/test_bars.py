"""Which figures meet a bar: of an overload, of batching, and that a probe's time is told from when it was due."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import uvloop

from bench.load import batching, overload
from bench.load.alone import MODELS, alone
from bench.load.bars import Bar, tell
from bench.load.batching import ALONE, Measured
from bench.load.exchanges import request_bytes
from bench.load.overload import Answered
from bench.load.watch import probe_steadily, watching
from bench.questions import Question

ALIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"


def test_one_bar_that_is_missed_fails_all(capsys: pytest.CaptureFixture[str]) -> None:
    met, missed = Bar("enough", True), Bar("too little", False)
    assert tell([met]) == 0
    assert tell([met, missed, met]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["  FAIL  too little", "  PASS  enough"]


def answered(status: int, count: int, latency_s: float = 0.1, at_s: float = 1.0) -> list[Answered]:
    return [Answered(status, latency_s, at_s)] * count


def met(most: float, all_answered: Sequence[Answered], probes: Sequence[float] = (0.001,)) -> list[bool]:
    return [bar.is_met for bar in overload.bars_of(most, all_answered, probes, seconds=2.0)]


def test_goodput_is_what_was_answered_well_and_while_requests_came() -> None:
    assert met(100, answered(200, 180) + answered(429, 900)) == [True, True, True]
    assert met(100, answered(200, 179) + answered(429, 900)) == [False, True, True]
    late = answered(200, 20, at_s=2.1)
    assert met(100, answered(200, 170) + late) == [False, True, True]
    (bar, *_) = overload.bars_of(100, answered(200, 180) + answered(429, 900), [0.001], seconds=2.0)
    assert bar.text == "90.0 of 100.0 requests/s answered: 90% of 90% (180 x 200, 900 x 429)"


def test_only_who_was_let_in_has_a_deadline() -> None:
    assert met(100, answered(200, 198) + answered(504, 500, latency_s=1.1)) == [True, True, True]
    assert met(100, answered(200, 197) + answered(200, 1, latency_s=1.1)) == [True, True, True]
    assert met(100, answered(200, 197) + answered(200, 3, latency_s=1.1)) == [True, False, True]
    assert met(100, answered(504, 500)) == [False, False, True]


def test_one_probe_in_a_hundred_may_be_late() -> None:
    assert met(100, answered(200, 200), [0.004] * 199 + [0.5]) == [True, True, True]
    assert met(100, answered(200, 200), [0.004] * 98 + [0.006] * 2) == [True, True, False]


def test_each_kind_of_predict_is_overloaded_in_each_way() -> None:
    titles = [case.title for case in overload.cases()]
    assert len(set(titles)) == len(titles) == 6
    for case in overload.cases():
        assert (MODELS / case.model / "config.yaml").exists()


@pytest.mark.parametrize("model", ["sleeping", "sleeping_coroutine"])
def test_an_overload_counts_every_request(model: str) -> None:
    (case, *_) = [case for case in overload.cases() if case.model == model]
    with alone(MODELS / model, overload.sleeping(0.001), ("--max-queue", "0")) as server:
        request = request_bytes(server, overload.sleeping(0.001))
        with watching(server.port) as watch:
            loading = overload.overload(server.port, request, 400, 0.25, case.clients, watch.finish)
            all_answered = uvloop.run(loading)
    assert len(all_answered) == 100
    assert {one.status for one in all_answered} <= {200, 429}
    assert any(one.status == 200 for one in all_answered)
    assert all(one.latency_s > 0 for one in all_answered)
    assert watch.times
    assert min(watch.times) > 0


def test_batches_are_to_bring_four_times_the_rate_and_add_no_latency() -> None:
    one = Measured(rate=50, median_ms=20)
    measured = {ALONE: one, 8: Measured(200, 20.9), 32: Measured(199, 21.1)}
    bars = batching.bars_of(20, measured)
    assert [bar.is_met for bar in bars] == [True, True, False, False]
    assert bars[0].text == "20 tokens, batches of 8, c=32: 50.0 -> 200.0 requests/s, 4.00 times of 4"
    assert bars[1].text == "20 tokens, batches of 8, c=1: p50 20.00 -> 20.90 ms, x1.045 of x1.05"


def test_a_contestant_is_made_for_each_size_of_batch(tmp_path: Path) -> None:
    alone_, batched = (batching.contestant_of(size, tmp_path / "model") for size in (ALONE, 8))
    assert alone_.name != batched.name
    assert alone_.folder == batched.folder
    assert "max_batch_size: 8" in (tmp_path / "model" / "config.yaml").read_text()
    assert (tmp_path / "model" / "model" / "model.py").exists()


def test_a_probe_that_waited_for_the_one_before_is_charged_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    client, other = socket.socketpair()
    reading, writing = os.pipe()
    stall_s = 0.1

    def answer() -> None:
        with other:
            other.recv(1000)
            threading.Event().wait(stall_s)  # never set: the stall that is to be seen
            for number in range(3):
                if number == 2:
                    os.write(writing, b"\n")
                other.sendall(ALIVE)
                other.recv(1000)

    answering = threading.Thread(target=answer)
    with client, os.fdopen(reading) as stdin:
        client.settimeout(5)
        monkeypatch.setattr(sys, "stdin", stdin)
        answering.start()
        times = probe_steadily(client, each_s=0.01)
    answering.join()
    os.close(writing)
    assert len(times) == 3
    assert times[0] >= stall_s
    assert times[1] >= stall_s - 0.01
    assert times[2] >= stall_s - 0.02


def test_a_sleep_that_was_cut_short_is_seen() -> None:
    question: Question = overload.sleeping(0.5)
    assert question.is_answer(b'{"slept":0.5}', False)
    assert not question.is_answer(b'{"slept":0.4}', False)
