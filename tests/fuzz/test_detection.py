"""That the fuzzing finds what it looks for: connections with a bug each, and tools that are tried on their own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fastserve.errors import RequestError
from fastserve.http11.phase import Phase
from fastserve.messages import Request, Response
from tests.fuzz import corpus
from tests.fuzz.campaign import Campaign, describe
from tests.fuzz.choices import FromBytes, Seeded
from tests.fuzz.guided_target import HEAD, decode, encode
from tests.fuzz.judge import judge
from tests.fuzz.play import World
from tests.fuzz.reach import reduce
from tests.fuzz.reading import read_answers
from tests.fuzz.resources import Resources
from tests.fuzz.scenario import Ending, Scenario, from_line, to_line
from tests.fuzz.second_opinion import read_requests
from tests.fuzz.shrinking import shrink
from tests.fuzz.streams import make_any
from tests.fuzz.watching import Seen, ViolationError, WatchedConnection

GET = b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n"
ENOUGH_STREAMS = 600


class AnswersTwice(WatchedConnection):
    def send_json(self, request: Request, content: bytes) -> None:
        super().send_json(request, content)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class AnswersWithContentOfOthers(WatchedConnection):
    def send_response(self, request: Request, response: Response) -> None:
        response.content = response.content.replace(b"1", b"0")
        super().send_response(request, response)


class GoesOnAfterARefusal(WatchedConnection):
    def _refuse(self, error: RequestError) -> None:
        self._transport.write(
            b'HTTP/1.1 400 Bad\r\nDate: x\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{"error":1}'
        )
        self._phase = Phase.IDLE
        self._reader.take_all()


class LosesALineFeedBetweenReads(WatchedConnection):
    def data_received(self, received: bytes) -> None:
        super().data_received(received.removeprefix(b"\n"))


class KeepsWhoIsSilent(WatchedConnection):
    def check_deadline(self, now: float) -> None: ...


class KeepsWorkingForNobody(WatchedConnection):
    def _drop_request(self) -> None: ...


class StaysKnown(WatchedConnection):
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._listener.connections.add(self)


class Jumps(WatchedConnection):
    def send_json(self, request: Request, content: bytes) -> None:
        if self._reader.unread:
            self._phase = Phase.SENDING
            self._phase = Phase.RUNNING
        super().send_json(request, content)


class TakesABareLineFeed(WatchedConnection):
    def data_received(self, received: bytes) -> None:
        super().data_received(received.replace(b"\x0b", b" "))


class SaysTooMuch(WatchedConnection):
    def eof_received(self) -> bool:
        raise LookupError("an exception of ours")


@pytest.mark.parametrize(
    "connection",
    [
        *(
            AnswersTwice,
            AnswersWithContentOfOthers,
            GoesOnAfterARefusal,
            LosesALineFeedBetweenReads,
            KeepsWhoIsSilent,
        ),
        *(KeepsWorkingForNobody, StaysKnown, Jumps, TakesABareLineFeed, SaysTooMuch),
    ],
)
def test_a_connection_with_a_bug_is_found_out(connection: type[WatchedConnection]) -> None:
    streams = corpus.read_streams()
    world = World(connection)
    try:
        with pytest.raises((ViolationError, AssertionError, LookupError)):
            for number in range(ENOUGH_STREAMS):
                judge(world, make_any(Seeded(f"detection:{number}"), streams))
    finally:
        world.close()


def test_a_campaign_ends_with_what_failed_and_how_to_play_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.campaign.World", lambda: World(AnswersTwice))
    campaign = Campaign("seed:0", lambda line: None)
    try:
        failure = campaign.run(seconds=60.0, streams=10_000).failure
    finally:
        campaign.close()
    assert failure is not None
    assert failure.scenario is not None
    assert len(failure.scenario.raw) < len(GET)
    assert f"--only {failure.name}\n" in describe(failure)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", "no response"),
        (b"HTTP/1.1 200 OK\r\nDate: x\r\nDate: x\r\nContent-Length: 0\r\n\r\n", "repeated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no Date"),
        (b"HTTP/1.1 200 OK\r\nDate: x\r\n\r\n", "no framing"),
        (b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "two"),
        (b"HTTP/1.1 204 None\r\nDate: x\r\nContent-Length: 0\r\n\r\n", "204"),
        (b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"?" * 20, "no chunk"),
        (b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n" * 3, "behind the refusal"),
    ],
)
def test_a_malformed_response_is_found_out(sent: bytes, complaint: str) -> None:
    with pytest.raises(ViolationError, match=complaint):
        read_answers(sent, [Seen(b"GET", b"/", b"", 200, False, False, False)])


def test_h11_is_asked_about_boundaries_and_has_no_view_on_trailers() -> None:
    chunked = b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    requests, end = read_requests(GET + chunked + b"\r\n" + b"\0")
    assert [request.content for request in requests] == [b"", b"a"]
    assert end is not None and end.startswith("refuses")
    assert read_requests(GET + chunked + b"Content-Length: a\r\n\r\n") == (requests[:1], None)
    assert read_requests(GET[:-1]) == ([], "waits for more")


def test_a_scenario_is_the_same_from_its_text_and_nearly_from_its_bytes() -> None:
    for number in range(200):
        scenario = make_any(Seeded(f"text:{number}"), [GET])
        assert from_line(to_line(scenario)) == scenario
        assert make_any(Seeded(f"text:{number}"), [GET]) == scenario
        decoded = decode(encode(scenario))
        assert (decoded.raw, decoded.ending, decoded.is_tight) == (scenario.raw, scenario.ending, scenario.is_tight)
    assert decode(b"") == Scenario(b"", manners=b"\0\0", tempo=b"\0\0")
    assert decode(bytes(HEAD) + GET).raw == GET


def test_bytes_that_are_used_up_are_zeros() -> None:
    choices = FromBytes(b"\x07\x02ab\x00\x00\x01\x00")
    assert [choices.below(5), choices.octets(3), choices.below(1000), choices.below(9)] == [2, b"ab", 256, 0]
    assert choices.octets(5) == b""


def test_what_fails_is_shrunk_to_what_makes_it_fail() -> None:
    scenario = Scenario(
        b"GET / HTTP/1.1\r\nBad: \x00\r\n\r\n" * 3, (5, 40), b"abc", b"def", Ending.DRAIN, expected=(), is_tight=True
    )
    smallest = shrink(scenario, lambda smaller: b"\0" in smaller.raw and bool(smaller.cuts) and b"e" in smaller.tempo)
    assert dataclasses.replace(smallest, cuts=()) == Scenario(b"\0", tempo=b"e")
    assert len(smallest.cuts) == 1
    assert shrink(scenario, lambda smaller: True, max_tries=3).raw == scenario.raw


def test_of_two_that_reach_the_same_the_shorter_is_kept() -> None:
    longer, refused = Scenario(GET.replace(b"/0", b"/longer")), Scenario(b"\0" + GET)
    assert reduce([longer, Scenario(GET), refused]) == [Scenario(GET), refused]


def test_a_scenario_is_kept_once(tmp_path: Any) -> None:
    file = tmp_path / "corpus" / "finds.jsonl"
    for _ in range(2):
        corpus.add(file, Scenario(GET))
    corpus.add(file, Scenario(GET, (3,)))
    assert corpus.read(file) == [Scenario(GET, (3,)), Scenario(GET)]  # in the order of their text


def test_growth_is_told_of_by_name() -> None:
    before = Resources(memory_kib=50_000, descriptors=9, threads=3, tasks=0, objects=40_000)
    assert before._replace(memory_kib=51_000, objects=40_100).growth_over(before) == []
    grown = before._replace(memory_kib=90_000, descriptors=10, tasks=1)
    assert [sentence.split()[0] for sentence in grown.growth_over(before)] == ["memory_kib", "descriptors", "tasks"]
