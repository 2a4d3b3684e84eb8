"""The outputs of one batch: predict yields lists, item i of each is the next chunk of job i; None ends its stream.

Each job has a stream of its own (`streams.py`), or the text of all its chunks if its client wants that. Used by
`batch_step.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from time import monotonic
from typing import Any

from fastserve.errors import ResultError
from fastserve.model.steps import Job
from fastserve.model.streams import Stream, as_text, join
from fastserve.turns import Turns


def check_list(value: Any, count: int, verb: str, what: str) -> Sequence[Any]:
    """`value`, which `predict` returned or yielded (the verb), if it is a list of `count` results or chunks (what).

    Raises ResultError with what was wanted and what was got.
    """
    if isinstance(value, (list, tuple)) and len(value) == count:
        return value
    got = f"{len(value)} of them" if isinstance(value, (list, tuple)) else type(value).__name__
    raise ResultError(f"`predict` must {verb} a list of {count} {what}, one for each input (batching), not {got}")


class _Streamed:
    """One job's output as a stream."""

    __slots__ = ("_stream", "job")

    def __init__(self, job: Job, stream: Stream) -> None:
        self.job = job
        job.value = None
        self._stream = stream

    @property
    def is_unwanted(self) -> bool:
        return self._stream.must_stop

    def put(self, chunk: Any) -> Stream | None:
        """Returns the stream if it has no more room."""
        return None if self._stream.put(chunk) else self._stream

    def end(self, error: BaseException | None) -> None:
        self._stream.end(error)


class _Gathered:
    """One job's output as one text, which is then encoded like any other result."""

    __slots__ = ("_chunks", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self._chunks: list[bytes] = []

    @property
    def is_unwanted(self) -> bool:
        return self.job.is_cancelled

    def put(self, chunk: Any) -> None:
        self._chunks.append(as_text(chunk))

    def end(self, error: BaseException | None) -> None:
        job = self.job
        job.error = error
        if error is None:
            try:
                job.value = join(self._chunks)
                job.value = job.encode()
            except BaseException as raised:  # noqa: BLE001 - it is this job's alone
                job.error = raised


class BatchStreams:
    """Where the chunks of one batch go. Called where the generator runs.

    open_stream: a stream for a job; called when there are first chunks, so that a generator that fails before may be
        tried anew. finish: told of each job once it is over, which may be before the others.
    has_begun: something may have been sent. error: what ended it afterwards.
    """

    def __init__(
        self, batch: Sequence[Job], open_stream: Callable[[Job], Stream], finish: Callable[[Job], None]
    ) -> None:
        self._batch = batch
        self._open_stream = open_stream
        self._finish = finish
        self._outputs: dict[int, _Streamed | _Gathered] = {}  # those that go on, by their place in the batch
        self._begun = 0  # so many have been among them
        self._ended: set[int] = set()  # by a None
        self._last: Stream | None = None  # that was opened
        self.has_begun = False
        self.error: BaseException | None = None

    def put(self, chunks: Any) -> list[Stream]:
        """Give each job what comes next for it. Returns the streams that have no more room, to be waited for.

        Raises ResultError for what is no list of as many chunks, and for a chunk behind the None that ended a stream.
        One that is neither text nor bytes fails its own job alone.
        """
        chunks = check_list(chunks, len(self._batch), "yield", "chunks")
        self._begin()
        full: list[Stream] = []
        for place, chunk in enumerate(chunks):
            output = self._outputs.get(place)
            if output is None:
                self._check_ended(place, chunk)
            elif chunk is None:
                self._ended.add(place)
                self._end_one(place, None)
            elif output.is_unwanted:
                self._end_one(place, None)
            else:
                try:
                    stream = output.put(chunk)
                except Exception as error:  # noqa: BLE001 - a chunk's `__str__` may be the user's
                    self._end_one(place, error)
                else:
                    if stream is not None:
                        full.append(stream)
        return full

    @property
    def is_over(self) -> bool:
        """All have ended, or their clients have left."""
        return self.has_begun and not self._outputs

    def end(self, error: BaseException | None) -> None:
        """Nothing more comes for those that go on."""
        self.error = error
        self._begin()
        for place in list(self._outputs):
            self._end_one(place, error)

    def wait_until_sent(self) -> None:
        """As `Stream.wait_until_taken`; what is there of all is sent in one turn of the loop."""
        if self._last is not None:
            self._last.wait_until_taken()

    def _begin(self) -> None:
        self.has_begun = True
        while self._begun < len(self._batch):  # a strike may have been in the midst of it
            place, job = self._begun, self._batch[self._begun]
            if job.wants_whole():
                self._outputs[place] = _Gathered(job)
            else:
                self._last = self._open_stream(job)
                self._outputs[place] = _Streamed(job, self._last)
            self._begun += 1

    def _check_ended(self, place: int, chunk: Any) -> None:
        if chunk is not None and place in self._ended:
            raise ResultError(
                f"`predict` yielded a chunk for input {place} after the None that ended its stream; "
                'yield "" for an input that has nothing to say this time'
            )

    def _end_one(self, place: int, error: BaseException | None) -> None:
        output = self._outputs[place]
        output.end(error)
        self._finish(output.job)
        del self._outputs[place]  # last: a strike before it is an error that ends all that are there


def produce_batch(streams: BatchStreams, generator: Generator[Any, None, None]) -> None:
    """Run `generator` into `streams` to its end, or until nobody wants more of it. Blocks; on a worker thread.

    Raises what it raises before its first chunks; later the streams are told.
    """
    try:
        try:
            for chunks in generator:
                is_first = not streams.has_begun
                for stream in streams.put(chunks):
                    stream.wait_for_room()
                if streams.is_over:
                    break
                if is_first:
                    streams.wait_until_sent()
        finally:
            generator.close()
        streams.end(None)
    except BaseException as error:
        if not streams.has_begun:
            raise
        streams.end(error)


async def produce_batch_on_loop(streams: BatchStreams, generator: AsyncGenerator[Any, None], turns: Turns) -> None:
    """The same on the loop; in `turns`, since it may never wait."""
    turn_ends = 0.0
    try:
        try:
            async for chunks in generator:
                for stream in streams.put(chunks):
                    await stream.wait_for_room_on_loop()
                if streams.is_over:
                    break
                if monotonic() >= turn_ends:
                    turn_ends = await turns.give()
        finally:
            await generator.aclose()
        streams.end(None)
    except BaseException as error:
        if not streams.has_begun:
            raise
        streams.end(error)
