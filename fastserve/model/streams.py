"""Generator to chunks: run ahead of the reader up to a bound in bytes, closed when the reader leaves.

`Stream` is the buffer between the one who produces (a worker thread, or a coroutine on the loop) and the one who
takes (the loop). Produced bytes are counted by the producer alone and taken bytes by the loop alone: no lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from time import monotonic
from typing import Any, Final, Protocol

from fastserve.errors import ResultError
from fastserve.turns import TURN_S, WAIT_S, Turns

# A stream may always have this much unread, however full all streams together are: none starves at nothing.
FREE_BYTES: Final = 64 * 1024
# A generator that never lets go of the GIL waits this long for its first chunk to be sent: 0.1 ms as a rule. Without
# it the chunk waits for the switch interval or longer.
FIRST_CHUNK_S: Final = 0.001
# Most that is taken for one write; the next follows when the peer has read it. So many chunks are framed in 6 ms.
TAKE_BYTES: Final = 1024 * 1024
TAKE_CHUNKS: Final = 16 * 1024


class Reader(Protocol):
    """Who takes from a stream. Called on the loop's thread."""

    def on_chunks(self, stream: Stream) -> None:
        """There are chunks to take, or the stream has ended (`is_done`)."""
        ...


class StreamBudget:
    """Unread bytes that one stream and all streams together may hold.

    used: what all hold now; waiting: streams whose producer waits for room. Both under `lock`.
    """

    __slots__ = ("all_bytes", "each_bytes", "lock", "used", "waiting")

    def __init__(self, each_bytes: int, all_bytes: int) -> None:
        self.each_bytes = each_bytes
        self.all_bytes = all_bytes
        self.used = 0
        self.lock = threading.Lock()
        self.waiting: set[Stream] = set()

    def wake(self) -> None:
        """Have every producer go on that has room now; whoever freed it calls this, on the loop."""
        if self.waiting:
            with self.lock:
                waiting = tuple(self.waiting)
            for stream in waiting:
                stream.wake_producer()


class Stream:
    """Chunks of one generator's output on their way to one reader.

    is_done: nothing more will be put; error then says whether the generator failed.
    is_cancelled: the reader has gone: what is put is dropped.
    must_stop: the producer is to stop at its next chunk, because of that; a generator that looks after itself is run
        to its end.
    """

    __slots__ = (
        "_accounted",
        "_budget",
        "_chunks",
        "_is_announced",
        "_produced",
        "_reader",
        "_room",
        "_stops_unread",
        "_taken",
        "_tell",
        "error",
        "is_cancelled",
        "is_done",
        "must_stop",
    )

    def __init__(
        self, reader: Reader, budget: StreamBudget, tell: Callable[[Stream], None], *, stops_unread: bool = True
    ) -> None:
        """tell: has `on_loop` called on the loop's thread; called from the producer's.

        stops_unread: the producer is stopped when the reader goes.
        """
        self._reader: Reader | None = reader
        self._budget = budget
        self._tell = tell
        self._chunks: deque[bytes] = deque()
        self._produced = 0  # bytes; written by the producer alone
        self._taken = 0  # bytes; written by the loop alone
        self._accounted = 0  # of these, what is counted in budget.used
        self._is_announced = False
        self._room: Callable[[], object] | None = None  # wakes a producer that waits for room
        self.error: BaseException | None = None
        self.is_done = False
        self.is_cancelled = False
        self.must_stop = False
        self._stops_unread = stops_unread

    # --- the producer's side ---

    def put(self, chunk: Any, *, at_once: bool = False) -> bool:
        """Add one chunk: text (sent as UTF-8) or bytes; an empty one is dropped.

        at_once: let the reader have what there is before this returns; on the loop's thread only.

        Returns whether there is room for more. Raises ResultError for anything else.
        """
        if type(chunk) is not bytes:
            chunk = _as_bytes(chunk)
        if chunk and not self.is_cancelled:
            self._chunks.append(chunk)
            self._produced += len(chunk)
            if at_once:
                self.on_loop()
            elif not self._is_announced:
                self.announce()
            if self._produced - self._taken < FREE_BYTES:  # as `has_room`: a frame less for nearly each chunk
                return True
        return self.has_room()

    def has_room(self) -> bool:
        unread = self._produced - self._taken
        if unread < FREE_BYTES or self.is_cancelled:
            return True
        self._account()
        return unread < self._budget.each_bytes and self._budget.used < self._budget.all_bytes

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes."""
        self.error = error
        self.is_done = True
        self.announce()

    def give_up(self, error: BaseException) -> None:
        """The producer's thread was struck outside of the generator: end it, unless it has ended by itself."""
        self.end(self.error if self.is_done else error)

    def announce(self) -> None:
        """Tell the reader, once for all that is there when it looks."""
        self._is_announced = True
        self._tell(self)

    def wait_for_room(self) -> None:
        """Block this (worker) thread until there is room or the reader has gone."""
        room = threading.Event()
        self._begin_waiting(room.set)
        try:
            if not self.has_room() and not self.is_cancelled:  # looked at anew: the reader may have taken meanwhile
                room.wait()
        finally:  # user code may have an exception raised in this thread
            self._end_waiting()

    def wait_until_taken(self) -> None:
        """Let the loop have the GIL until it has taken what is there, for FIRST_CHUNK_S at most."""
        if self._chunks:
            taken = threading.Event()
            self._room = taken.set
            if self._chunks:
                taken.wait(FIRST_CHUNK_S)
            self._room = None

    async def wait_for_room_on_loop(self) -> None:
        """The same for a producer on the loop."""
        room = asyncio.Event()
        self._begin_waiting(room.set)
        try:
            if not self.has_room() and not self.is_cancelled:
                await room.wait()
        finally:
            self._end_waiting()

    def _begin_waiting(self, room: Callable[[], object]) -> None:
        self._room = room
        with self._budget.lock:
            self._budget.waiting.add(self)

    def _end_waiting(self) -> None:
        self._room = None
        with self._budget.lock:
            self._budget.waiting.discard(self)

    # --- the loop's side ---

    def on_loop(self) -> None:
        self._is_announced = False
        self._account()
        reader = self._reader
        if reader is None:  # it has been told of the end
            return
        if self.is_done:
            self._reader = None  # each holds the other
        reader.on_chunks(self)

    @property
    def is_empty(self) -> bool:
        return not self._chunks

    @property
    def pulse(self) -> object:
        """Another at each look, as long as the producer makes headway or waits for the reader."""
        return self._produced if self._room is None else object()

    def take(self) -> list[bytes]:
        """The chunks that are there, up to about TAKE_BYTES or TAKE_CHUNKS; they are the reader's now."""
        chunks = self._chunks
        if self._produced - self._taken <= TAKE_BYTES:
            popleft = chunks.popleft
            taken = [popleft() for _ in range(min(len(chunks), TAKE_CHUNKS))]
            size = sum(map(len, taken))
        else:
            taken, size = [], 0
            while chunks and size < TAKE_BYTES and len(taken) < TAKE_CHUNKS:
                chunk = chunks.popleft()
                size += len(chunk)
                taken.append(chunk)
        self._taken += size
        self._account()
        self.wake_producer()
        self._budget.wake()
        return taken

    def cancel(self, *, stops: bool = True) -> None:
        """The reader has gone: what is unread is dropped, and with `stops` and `stops_unread` the producer stops."""
        self.is_cancelled = True
        self.must_stop = stops and self._stops_unread
        self._taken = self._produced
        self._chunks.clear()
        self._account()
        self.wake_producer()
        self._budget.wake()

    def _account(self) -> None:
        with self._budget.lock:
            unread = 0 if self.is_cancelled else self._produced - self._taken
            self._budget.used += unread - self._accounted
            self._accounted = unread

    def wake_producer(self) -> None:
        """Have the producer go on if it waits and need not."""
        room = self._room
        if room is not None and (self.is_cancelled or self.has_room()):
            room()


_BYTES: Final = (bytes, bytearray, memoryview)
_CHUNKS: Final = (str, *_BYTES)


def _as_bytes(chunk: Any) -> bytes:
    if isinstance(chunk, str):
        try:
            return str.encode(chunk)  # a subclass may have an `encode` of its own
        except UnicodeEncodeError as error:
            raise ResultError(f"a chunk holds text that is not Unicode: {error}") from None
    if isinstance(chunk, _BYTES):
        return memoryview(chunk).tobytes()  # not `bytes`: a subclass may have its own `__bytes__` and `__len__`
    raise ResultError(f"a generator must yield text or bytes, not {type(chunk).__name__}")


def produce(stream: Stream, generator: Generator[Any, None, None]) -> None:
    """Run `generator` into `stream` to its end. Blocks; on a worker thread. Never raises."""
    error: BaseException | None = None
    is_first = True
    try:
        try:
            for chunk in generator:
                if stream.must_stop:
                    break
                if not stream.put(chunk):
                    stream.wait_for_room()
                    if stream.must_stop:
                        break
                if is_first:
                    is_first = False
                    stream.wait_until_taken()
        finally:
            generator.close()
    except BaseException as raised:  # noqa: BLE001 - user code may raise anything; the reader is told
        error = raised
    stream.end(error)


async def produce_on_loop(stream: Stream, generator: AsyncGenerator[Any, None], turns: Turns) -> None:
    """Run `generator` into `stream` to its end, on the loop; in `turns`, since it may never wait.

    Raises only CancelledError.
    """
    error: BaseException | None = None
    turn_ends = 0.0
    heard = turns.time()
    try:
        try:
            async for chunk in generator:
                if stream.must_stop:
                    break
                # What comes in a turn is gathered. What comes after it is its last, or the generator has waited for
                # it: in the loop's next round it would go out behind all that others yield in this one.
                is_over = monotonic() >= turn_ends
                if not stream.put(chunk, at_once=is_over):
                    await stream.wait_for_room_on_loop()
                    if stream.must_stop:
                        break
                if is_over:
                    # Who has waited has given way already: one turn more would only make its next chunk late.
                    has_waited = turns.time() - heard >= WAIT_S
                    turn_ends = monotonic() + TURN_S if has_waited else await turns.give()
                    heard = turns.time()
        finally:
            await generator.aclose()
    except asyncio.CancelledError as raised:
        stream.end(raised)
        raise
    except BaseException as raised:  # noqa: BLE001
        error = raised
    stream.end(error)


def _never() -> bool:
    return False


def gather(generator: Generator[Any, None, None], is_cancelled: Callable[[], bool] = _never) -> str:
    """All of `generator`'s output as one text, for a client that accepts only JSON; ends early if that has gone."""
    chunks: list[bytes] = []
    try:
        for chunk in generator:
            if is_cancelled():
                break
            chunks.append(as_text(chunk))
    finally:
        generator.close()
    return join(chunks)


async def gather_on_loop(
    generator: AsyncGenerator[Any, None], turns: Turns, is_cancelled: Callable[[], bool] = _never
) -> str:
    """The same for an async generator, in `turns`."""
    chunks: list[bytes] = []
    try:
        async for chunk in generator:
            if is_cancelled():
                break
            chunks.append(as_text(chunk))
            await turns.give()
    finally:
        await generator.aclose()
    return join(chunks)


def as_text(chunk: Any) -> bytes:
    """The bytes of one chunk; what is neither text nor bytes is written as `str` has it, as by Truss."""
    return _as_bytes(chunk if isinstance(chunk, _CHUNKS) else str(chunk))


def join(chunks: list[bytes]) -> str:
    """Chunks as one text. Raises ResultError if they are not UTF-8."""
    try:
        return b"".join(chunks).decode()
    except UnicodeDecodeError as error:
        raise ResultError(f"a stream that is not UTF-8 cannot become a JSON string: {error}") from None
