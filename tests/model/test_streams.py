"""A generator's output is bounded, complete and in order; the generator is closed whatever happens."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.errors import ResultError
from fastserve.model import streams
from fastserve.model.streams import (
    FREE_BYTES,
    TAKE_BYTES,
    TAKE_CHUNKS,
    Stream,
    StreamBudget,
    gather,
    gather_on_loop,
    produce,
    produce_on_loop,
)
from fastserve.turns import TURN_S, WAIT_S, Turns
from tests.support.loops import PATIENCE_S, run

ROOMY = 1 << 30
BLOCK = b"x" * FREE_BYTES  # as much as a stream may always hold


def own_turns() -> Turns:
    """Of nobody but the one producer."""
    return Turns(asyncio.get_running_loop())


async def gather_alone(generator: AsyncGenerator[Any, None], is_cancelled: Callable[[], bool] = bool) -> str:
    return await gather_on_loop(generator, own_turns(), is_cancelled)


class Reader:
    """Counts how often it was told; takes nothing by itself."""

    def __init__(self) -> None:
        self.calls = 0

    def on_chunks(self, stream: Stream) -> None:
        self.calls += 1


class Watched(Stream):
    """A stream that says when its producer waits for room, and queues what it tells the loop."""

    def __init__(self, budget: StreamBudget | None = None) -> None:
        self.reader = Reader()
        self.told: queue.SimpleQueue[Stream] = queue.SimpleQueue()
        self.waits = threading.Event()
        self.waits_on_loop = asyncio.Event()
        super().__init__(self.reader, budget or StreamBudget(ROOMY, ROOMY), self.told.put)

    def wait_for_room(self) -> None:
        self.waits.set()
        super().wait_for_room()

    async def wait_for_room_on_loop(self) -> None:
        self.waits_on_loop.set()
        await super().wait_for_room_on_loop()

    def read_all(self) -> bytes:
        """As the loop would: until the stream has ended and nothing is left."""
        content = b""
        while not (self.is_done and self.is_empty and self.told.empty()):
            self.told.get(timeout=PATIENCE_S).on_loop()
            while not self.is_empty:
                content += b"".join(self.take())
        return content


def in_thread(stream: Stream, generator: Generator[Any, None, None]) -> threading.Thread:
    thread = threading.Thread(target=produce, args=(stream, generator))
    thread.start()
    return thread


class Log(list[str]):
    """What a generator went through."""

    def generate(self, *chunks: Any) -> Generator[Any, None, None]:
        try:
            for chunk in chunks:
                self.append("yield")
                yield chunk
            self.append("end")
        finally:
            self.append("closed")

    async def generate_async(self, *chunks: Any) -> AsyncGenerator[Any, None]:
        try:
            for chunk in chunks:
                self.append("yield")
                yield chunk
            self.append("end")
        finally:
            self.append("closed")


# --- what a chunk may be ---


class Text(str):
    __slots__ = ()


CHUNKS = [
    (b"bytes", b"bytes"),
    ("text: \u20ac", "text: \u20ac".encode()),
    (Text("of a subclass"), b"of a subclass"),
    (bytearray(b"array"), b"array"),
    (memoryview(b"view"), b"view"),
    (memoryview(b"a-b-c-")[::2], b"abc"),
]


@pytest.mark.parametrize("chunk, expected", CHUNKS)
def test_text_and_anything_like_bytes_can_be_put(chunk: object, expected: bytes) -> None:
    stream = Watched()
    assert stream.put(chunk)
    assert stream.take() == [expected]
    assert type(expected) is bytes


def test_what_was_put_does_not_change_with_the_buffer_it_came_from() -> None:
    stream, buffer = Watched(), bytearray(b"before")
    stream.put(buffer)
    buffer[:] = b"after."
    assert stream.take() == [b"before"]


@pytest.mark.parametrize("chunk", [b"", "", bytearray()])
def test_an_empty_chunk_is_dropped_without_a_word_to_the_reader(chunk: object) -> None:
    stream = Watched()
    assert stream.put(chunk)
    assert stream.is_empty
    assert stream.told.empty()


@pytest.mark.parametrize("chunk", [5, None, {"a": 1}, ["text"]])
def test_any_other_chunk_is_refused_with_its_type(chunk: object) -> None:
    with pytest.raises(ResultError, match=f"must yield text or bytes, not {type(chunk).__name__}"):
        Watched().put(chunk)


def test_text_with_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ResultError, match="not Unicode"):
        Watched().put("\ud800")


# --- the buffer ---


def test_the_reader_is_told_once_for_all_that_is_there_when_it_looks() -> None:
    stream = Watched()
    for _ in range(3):
        for _ in range(5):
            stream.put(b"x")
        assert stream.told.qsize() == 1
        stream.told.get().on_loop()
    assert stream.reader.calls == 3
    assert b"".join(stream.take()) == b"x" * 15


def test_no_more_is_taken_at_once_than_a_write_should_have() -> None:
    stream, half = Watched(), b"x" * (TAKE_BYTES // 2)
    for chunk in (half, half, half, b"y"):
        stream.put(chunk)
    assert stream.take() == [half, half]
    assert stream.take() == [half, b"y"]
    assert stream.take() == []
    for _ in range(TAKE_CHUNKS + 1):
        stream.put(b"z")
    assert [len(stream.take()), len(stream.take())] == [TAKE_CHUNKS, 1]


def test_a_stream_has_room_up_to_its_bound_and_again_when_its_reader_took() -> None:
    stream = Watched(StreamBudget(3 * FREE_BYTES, ROOMY))
    assert [stream.put(BLOCK) for _ in range(4)] == [True, True, False, False]
    assert not stream.has_room()
    stream.take()
    assert stream.has_room()


def test_a_stream_may_always_hold_a_little_however_small_its_bound() -> None:
    stream = Watched(StreamBudget(1, 1))
    assert stream.put(BLOCK[1:])
    assert not stream.put(b"x")


def test_all_streams_together_have_a_bound_too() -> None:
    budget = StreamBudget(ROOMY, 3 * FREE_BYTES)
    first, second = Watched(budget), Watched(budget)
    for _ in range(3):
        first.put(BLOCK)
    first.told.get().on_loop()  # the loop has seen it: now it counts
    assert budget.used == 3 * FREE_BYTES
    assert second.put(BLOCK[1:])  # none starves
    assert not second.put(BLOCK)
    first.take()
    assert second.has_room()


def test_a_cancelled_stream_holds_nothing_and_counts_nothing() -> None:
    budget = StreamBudget(ROOMY, ROOMY)
    stream = Watched(budget)
    stream.put(BLOCK)
    stream.told.get().on_loop()
    assert budget.used == FREE_BYTES
    stream.cancel()
    assert (budget.used, stream.is_empty, stream.is_cancelled) == (0, True, True)
    stream.put(b"one more before the producer looks")
    assert (budget.used, stream.is_empty, stream.told.empty()) == (0, True, True)


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("stops_unread", [True, False])
def test_a_cancelled_stream_stops_its_producer_only_if_both_agree(stops: bool, stops_unread: bool) -> None:
    stream = Stream(Reader(), StreamBudget(1, 1), lambda stream: None, stops_unread=stops_unread)
    stream.cancel(stops=stops)
    assert stream.must_stop is (stops and stops_unread)
    assert stream.put(BLOCK)  # there is always room: nothing is kept
    assert stream.is_empty


def test_what_was_taken_no_longer_counts() -> None:
    budget = StreamBudget(ROOMY, ROOMY)
    stream = Watched(budget)
    for size in (10, 20):
        stream.put(b"x" * size)
        stream.take()
        assert budget.used == 0
        stream.told.get().on_loop()
        assert budget.used == 0


# --- a producer on a thread ---


def test_a_generator_s_output_arrives_whole_and_in_order() -> None:
    stream, log = Watched(), Log()
    thread = in_thread(stream, log.generate(*(f"{number}," for number in range(5000))))
    assert stream.read_all() == "".join(f"{number}," for number in range(5000)).encode()
    thread.join()
    assert stream.error is None
    assert log[-2:] == ["end", "closed"]


def test_a_generator_without_output_ends_at_once() -> None:
    stream = Watched()
    produce(stream, Log().generate())
    assert stream.read_all() == b""
    assert stream.reader.calls == 1


@pytest.mark.parametrize("budget", [StreamBudget(2 * FREE_BYTES, ROOMY), StreamBudget(ROOMY, 2 * FREE_BYTES)])
def test_a_producer_without_room_waits_and_goes_on_when_its_reader_took(budget: StreamBudget) -> None:
    stream, log = Watched(budget), Log()
    budget.used = 0 if budget.all_bytes == ROOMY else 2 * FREE_BYTES  # full with what other streams hold
    thread = in_thread(stream, log.generate(*[BLOCK] * 5))
    assert stream.waits.wait(PATIENCE_S)
    held = log.count("yield")
    assert held == (2 if budget.each_bytes < ROOMY else 1)
    assert not stream.is_done
    assert stream.read_all() == BLOCK * 5
    thread.join()
    assert log[-2:] == ["end", "closed"]


@pytest.mark.parametrize("frees", [Stream.take, Stream.cancel])
def test_a_producer_that_waits_for_what_others_hold_goes_on_when_they_free_it(
    frees: Callable[[Stream], object],
) -> None:
    budget = StreamBudget(ROOMY, 4 * FREE_BYTES)
    other, stream, log = Watched(budget), Watched(budget), Log()
    for _ in range(4):
        other.put(BLOCK)
    thread = in_thread(stream, log.generate(BLOCK, BLOCK))
    assert stream.waits.wait(PATIENCE_S)
    assert log == ["yield"]
    frees(other)  # and nothing is taken from the one that waits
    thread.join(PATIENCE_S)
    assert log == ["yield", "yield", "end", "closed"]


def test_a_generator_goes_on_when_its_first_chunk_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FIRST_CHUNK_S", PATIENCE_S)
    stream, log = Watched(), Log()
    thread = in_thread(stream, log.generate("first", "second"))
    stream.told.get(timeout=PATIENCE_S).on_loop()
    assert log == ["yield"]
    assert stream.take() == [b"first"]
    assert stream.read_all() == b"second"
    thread.join()


def test_a_generator_goes_on_without_a_reader_that_takes_its_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FIRST_CHUNK_S", 0.0)
    stream = Watched()
    produce(stream, Log().generate("first", "second"))
    assert b"".join(stream.take()) == b"firstsecond"


def test_a_generator_does_not_wait_for_a_first_chunk_that_was_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FIRST_CHUNK_S", 10 * PATIENCE_S)
    stream = Watched()
    thread = in_thread(stream, Log().generate(""))
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_generator_whose_reader_leaves_is_closed_at_its_next_yield() -> None:
    stream, log, resume = Watched(), Log(), threading.Event()

    def generate() -> Generator[str, None, None]:
        try:
            yield "first"
            resume.wait(PATIENCE_S)
            yield "second"
            log.append("went on")
        finally:
            log.append("closed")

    thread = in_thread(stream, generate())
    stream.told.get(timeout=PATIENCE_S).on_loop()
    stream.cancel()
    resume.set()
    thread.join(PATIENCE_S)
    assert log == ["closed"]
    assert (stream.is_done, stream.error) == (True, None)


def test_a_generator_that_waits_for_room_is_closed_when_its_reader_leaves() -> None:
    stream, log = Watched(StreamBudget(FREE_BYTES, ROOMY)), Log()
    thread = in_thread(stream, log.generate(*[BLOCK] * 10))
    assert stream.waits.wait(PATIENCE_S)
    stream.cancel()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert log[-1] == "closed"
    assert log.count("yield") <= 2
    assert (stream.is_done, stream.error) == (True, None)


def test_waiting_ends_at_once_if_the_reader_took_or_left_just_before() -> None:
    took, left = Watched(StreamBudget(FREE_BYTES, ROOMY)), Watched(StreamBudget(FREE_BYTES, ROOMY))
    for stream in (took, left):
        assert not stream.put(BLOCK)
    took.take()
    left.cancel()
    assert left.put(BLOCK)  # produced before it looked: nothing is kept, so there is room
    for stream in (took, left):
        stream.wait_for_room()
        run(stream.wait_for_room_on_loop())


def fail_with(error: BaseException) -> Generator[str, None, None]:
    yield "before"
    raise error


class Panic(BaseException):
    """As extensions in Rust raise: not an Exception."""


ERRORS = [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Panic(), asyncio.CancelledError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_whatever_a_generator_raises_ends_its_stream_and_nothing_else(error: BaseException) -> None:
    stream = Watched()
    produce(stream, fail_with(error))
    assert stream.read_all() == b"before"
    assert stream.error is error


def test_a_stop_iteration_raised_by_a_generator_is_an_error_not_its_end() -> None:
    stream = Watched()
    produce(stream, fail_with(StopIteration()))
    assert stream.read_all() == b"before"
    assert isinstance(stream.error, RuntimeError)


def test_a_chunk_of_the_wrong_type_ends_the_stream_and_closes_the_generator() -> None:
    stream, log = Watched(), Log()
    produce(stream, log.generate("good", 5, "never"))
    assert stream.read_all() == b"good"
    assert isinstance(stream.error, ResultError)
    assert log == ["yield", "yield", "closed"]


def test_what_a_generator_raises_as_it_is_closed_is_told() -> None:
    def generate() -> Generator[str, None, None]:
        try:
            yield "first"
        finally:
            raise ValueError("in its finally")

    stream = Watched()
    stream.cancel()
    produce(stream, generate())
    assert isinstance(stream.error, ValueError)


# --- a producer on the loop ---


async def read_all_on_loop(stream: Watched) -> bytes:
    content = b""
    while not (stream.is_done and stream.is_empty):
        while not stream.told.empty():
            stream.told.get().on_loop()
        content += b"".join(stream.take())
        await asyncio.sleep(0)
    return content


def test_an_async_generator_s_output_arrives_whole_and_in_order() -> None:
    async def main() -> tuple[bytes, Stream, Log]:
        stream, log = Watched(), Log()
        chunks = [f"{number}," for number in range(1000)]
        producing = asyncio.ensure_future(produce_on_loop(stream, log.generate_async(*chunks), own_turns()))
        content = await read_all_on_loop(stream)
        await producing
        return content, stream, log

    content, stream, log = run(main())
    assert content == "".join(f"{number}," for number in range(1000)).encode()
    assert stream.error is None
    assert log[-2:] == ["end", "closed"]


def test_an_async_producer_without_room_waits_and_goes_on_when_its_reader_took() -> None:
    async def main() -> None:
        stream, log = Watched(StreamBudget(2 * FREE_BYTES, ROOMY)), Log()
        producing = asyncio.ensure_future(produce_on_loop(stream, log.generate_async(*[BLOCK] * 5), own_turns()))
        await stream.waits_on_loop.wait()
        assert log.count("yield") == 2
        assert await read_all_on_loop(stream) == BLOCK * 5
        await producing
        assert log[-2:] == ["end", "closed"]

    run(main())


def test_an_async_generator_that_waits_for_room_is_closed_when_its_reader_leaves() -> None:
    async def main() -> None:
        stream, log = Watched(StreamBudget(FREE_BYTES, ROOMY)), Log()
        producing = asyncio.ensure_future(produce_on_loop(stream, log.generate_async(*[BLOCK] * 10), own_turns()))
        await stream.waits_on_loop.wait()
        stream.cancel()
        await producing
        assert log[-1] == "closed"
        assert log.count("yield") <= 2
        assert (stream.is_done, stream.error) == (True, None)

    run(main())


def test_an_async_generator_whose_reader_leaves_is_closed_at_its_next_yield() -> None:
    async def main() -> None:
        stream, log, was_put, resume = Watched(), Log(), asyncio.Event(), asyncio.Event()

        async def generate() -> AsyncGenerator[str, None]:
            try:
                yield "first"
                was_put.set()
                await resume.wait()
                yield "second"
                log.append("went on")
            finally:
                log.append("closed")

        producing = asyncio.ensure_future(produce_on_loop(stream, generate(), own_turns()))
        await was_put.wait()
        stream.cancel()
        resume.set()
        await producing
        assert log == ["closed"]
        assert (stream.is_done, stream.error) == (True, None)

    run(main())


@pytest.mark.parametrize("error", [e for e in ERRORS if not isinstance(e, asyncio.CancelledError)], ids=repr)
def test_whatever_an_async_generator_raises_ends_its_stream_and_nothing_else(error: BaseException) -> None:
    async def generate() -> AsyncGenerator[str, None]:
        yield "before"
        raise error

    async def main() -> None:
        stream = Watched()
        await produce_on_loop(stream, generate(), own_turns())
        assert await read_all_on_loop(stream) == b"before"
        assert stream.error is error

    run(main())


def test_a_chunk_of_the_wrong_type_ends_an_async_stream_too() -> None:
    async def main() -> None:
        stream, log = Watched(), Log()
        await produce_on_loop(stream, log.generate_async("good", 5, "never"), own_turns())
        assert isinstance(stream.error, ResultError)
        assert log == ["yield", "yield", "closed"]

    run(main())


def test_a_cancelled_task_ends_its_stream_and_closes_its_generator() -> None:
    async def main() -> None:
        stream, log = Watched(StreamBudget(FREE_BYTES, ROOMY)), Log()
        producing = asyncio.ensure_future(produce_on_loop(stream, log.generate_async(*[BLOCK] * 10), own_turns()))
        await stream.waits_on_loop.wait()
        producing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await producing
        assert log == ["yield", "closed"]
        assert isinstance(stream.error, asyncio.CancelledError)
        assert stream.is_done

    run(main())


class Turn:
    """Notes that the loop had time for something else."""

    def __init__(self) -> None:
        self.has_come = False
        asyncio.get_running_loop().call_soon(self._come)

    def _come(self) -> None:
        self.has_come = True

    async def generate(self) -> AsyncGenerator[str, None]:
        """Never waits; gives up after a second."""
        gives_up = time.monotonic() + 1.0
        while not self.has_come and time.monotonic() < gives_up:
            yield "x"


def test_an_async_generator_that_never_waits_lets_others_have_a_turn() -> None:
    async def main() -> None:
        stream = Watched()
        for _ in range(3):
            turn = Turn()
            await produce_on_loop(stream, turn.generate(), own_turns())
            assert turn.has_come

    run(main())


def test_an_async_generator_that_never_waits_lets_others_have_a_turn_while_it_is_gathered() -> None:
    async def main() -> None:
        turn = Turn()
        await gather_alone(turn.generate())
        assert turn.has_come

    run(main())


# --- gathering ---

EURO = "\u20ac".encode()
GATHERED: list[tuple[list[Any], str]] = [
    ([], ""),
    (["a", b"b", bytearray(b"c"), memoryview(b"d"), ""], "abcd"),
    (
        ["a", 5, None, {"b": 1}],
        "a5None{'b': 1}",
    ),  # as Truss; in a stream that is sent as it comes only text and bytes
    ([EURO[:1], EURO[1:]], "\u20ac"),  # a character may be split over chunks
]


@pytest.mark.parametrize("chunks, expected", GATHERED)
def test_gathering_joins_text_and_bytes(chunks: list[Any], expected: str) -> None:
    assert gather(Log().generate(*chunks)) == expected
    assert run(gather_alone(Log().generate_async(*chunks))) == expected


@pytest.mark.parametrize(
    "chunks, words, seen",
    [
        (["\ud800", "never"], "not Unicode", ["yield", "closed"]),
        ([EURO[:1]], "not UTF-8 cannot become a JSON string", ["yield", "end", "closed"]),
    ],
)
def test_what_cannot_be_gathered_is_refused_and_the_generator_closed(
    chunks: list[Any], words: str, seen: list[str]
) -> None:
    for is_async in (False, True):
        log = Log()
        with pytest.raises(ResultError, match=words):
            if is_async:
                run(gather_alone(log.generate_async(*chunks)))
            else:
                gather(log.generate(*chunks))
        assert log == seen


def test_gathering_ends_and_the_generator_is_closed_at_its_next_yield_when_the_client_has_gone() -> None:
    for is_async in (False, True):
        log = Log()

        def has_gone(log: Log = log) -> bool:
            return len(log) == 2

        if is_async:
            run(gather_alone(log.generate_async("first", "second", "never"), has_gone))
        else:
            gather(log.generate("first", "second", "never"), has_gone)
        assert log == ["yield", "yield", "closed"]


# --- whatever the chunks and the reader ---


@settings(max_examples=60)
@given(
    chunks=st.lists(st.one_of(st.text(max_size=8), st.binary(max_size=8), st.just(BLOCK))),
    takes=st.lists(st.booleans()),
    each_bytes=st.integers(1, 4 * FREE_BYTES),
)
def test_nothing_is_lost_and_the_bound_holds(chunks: list[str | bytes], takes: list[bool], each_bytes: int) -> None:
    budget = StreamBudget(each_bytes, ROOMY)
    stream = Watched(budget)
    most = 0

    def note(chunks: Iterable[str | bytes]) -> Generator[str | bytes, None, None]:
        nonlocal most
        for chunk in chunks:
            most = max(most, stream._produced - stream._taken)  # before it is put
            yield chunk

    thread = in_thread(stream, note(chunks))
    read = b""
    for take in takes:  # a reader that sometimes takes and sometimes does not
        if take:
            read += b"".join(stream.take())
    read += stream.read_all()
    thread.join()
    assert read == b"".join(c if isinstance(c, bytes) else c.encode() for c in chunks)
    assert most < max(each_bytes, FREE_BYTES)
    assert budget.used == 0


def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)


class CountingTurns(Turns):
    """Counts the turns that were given, on a clock wound by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.now = 100.0
        self.given = 0

    def time(self) -> float:
        return self.now

    async def give(self) -> float:
        self.given += 1
        return 0.0  # over at once


@pytest.mark.parametrize(("gap_s", "turns_given"), [(2 * WAIT_S, 1), (WAIT_S / 2, 4)])
def test_a_generator_that_has_waited_for_its_chunk_need_not_wait_for_a_turn(gap_s: float, turns_given: int) -> None:
    async def main() -> None:
        turns = CountingTurns(asyncio.get_running_loop())

        async def generate() -> AsyncGenerator[str, None]:
            for number in range(4):
                yield "chunk"
                if number < 3:
                    hold_the_loop(2 * TURN_S)  # its turn is over
                    turns.now += gap_s

        stream = Watched()
        await produce_on_loop(stream, generate(), turns)
        assert await read_all_on_loop(stream) == b"chunk" * 4
        assert turns.given == turns_given

    run(main())
