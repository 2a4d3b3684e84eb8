"""The one door to the model: `load()`, `submit(job)`, `stop()`.

Counts what is in flight; owns the worker threads. Which step runs where is laid out here, once, and walked in
`steps.py`. Called by `server.py`, `endpoints/predict.py` and `endpoints/websocket.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final

from fastserve.config import Config
from fastserve.errors import LoadError, ModelDefinitionError, SetupError, text_of
from fastserve.model.contract import Contract, Kind, Method, read_contract
from fastserve.model.directory import ModelDirectory
from fastserve.model.loader import find_load, is_async, make_model
from fastserve.model.slots import Slots
from fastserve.model.steps import Hall, Job, LoopStep, Step, ThreadStep, as_pair
from fastserve.model.streams import StreamBudget
from fastserve.model.threads import Workers

_logger: Final = logging.getLogger("fastserve")

# Truss's own number of threads for everything that is not async: a preprocess that waits for a network sees the same
# parallelism. A sleeping one costs some 20 KB and no time (threads.py).
SIDE_THREADS: Final = 40
# Coroutine slots may be thousands; the threads that iterate the generators they return need not be.
MAX_STREAM_THREADS: Final = 40
# Truss: `load` is tried once more, after a second; its variable sets how often.
LOAD_RETRIES_VARIABLE: Final = "NUM_LOAD_RETRIES_TRUSS"
LOAD_RETRIES: Final = 1
LOAD_PAUSE_S: Final = 1.0

_ON_LOOP: Final = frozenset({Kind.COROUTINE, Kind.ASYNC_GENERATOR})


class Runtime:
    """One model, loaded and run.

    in_flight: jobs submitted and not over, those included whose client has gone.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, directory: ModelDirectory, config: Config, encode: Callable[[Any], Any]
    ) -> None:
        self._directory = directory
        self._slot_count = config.predict_concurrency
        budget = StreamBudget(config.stream_buffer_bytes, config.stream_buffers_bytes)
        self._hall = Hall(loop, budget, encode, self._finish)
        self._predict_workers = Workers("fastserve-predict", loop)
        self._side_workers = Workers("fastserve-side", loop)
        self.contract: Contract  # set by load
        self._start: Callable[[Job], None]  # the first step's; set by load
        self._needs_context = False  # some step runs on a thread
        self.in_flight = 0
        self._idle: asyncio.Future[None] | None = None  # awaited by wait_idle

    async def load(self) -> None:
        """Import the model, make it, call its `load`; it can be submitted to afterwards.

        `__init__`, a sync `load` and, with one slot, every sync predict run on the same thread: torch keeps grad
        mode, device and stream per thread, and what `load` set must still be set in `predict`.
        Raises SetupError, ModelDefinitionError, or LoadError whose cause is what user code raised.
        """
        self._predict_workers.start(1)
        self._model = model = await self._on_predict_thread(lambda: make_model(self._directory))
        self.contract = contract = await self._on_predict_thread(lambda: read_contract(model))
        if contract.websocket is not None:
            await self._on_predict_thread(_import_websockets)
        await self._load_with_retries(find_load(model))
        self._lay_out(contract)

    def submit(self, job: Job) -> None:
        """Send `job` on its way; `job.on_result` is called once, on the loop, when it is over. Only after `load`."""
        self.in_flight += 1
        if self._needs_context:
            job.context = copy_context()
        self._start(job)

    async def attend(self, make_websocket: Callable[[], Any]) -> BaseException | None:
        """Run the model's `websocket` method on what `make_websocket` makes. Returns what was raised; raises nothing.

        In flight, and in no predict slot.
        """
        method = self.contract.websocket
        assert method is not None

        async def run() -> None:
            await method.call(make_websocket())

        self.in_flight += 1
        _, error = await as_pair(run())
        self.in_flight -= 1
        self._tell_idle()
        return error

    def stop(self) -> bool:
        """End the threads. Returns False if one is stuck in user code and cannot be ended."""
        has_ended = [self._predict_workers.stop(), self._side_workers.stop()]
        return all(has_ended)

    async def wait_idle(self) -> None:
        """Until nothing is in flight."""
        while self.in_flight:
            self._idle = self._hall.loop.create_future()
            await self._idle

    def _finish(self, job: Job) -> None:
        self.in_flight -= 1
        job.on_result()
        if self._idle is not None:
            self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and not self.in_flight and not self._idle.done():
            self._idle.set_result(None)

    async def _on_predict_thread(self, function: Callable[[], Any]) -> Any:
        def guarded() -> Any:
            try:
                return function()
            except (SetupError, ModelDefinitionError):
                raise
            except BaseException as error:  # SystemExit included: user code does not end the server like that
                raise LoadError(f"{type(error).__name__}: {text_of(error)}") from error

        return await self._predict_workers.call(guarded, self._hall.completions)

    async def _load_with_retries(self, load: Callable[[], Any] | None) -> None:
        if load is None:
            return
        tries_left = 1 + _load_retries()
        while True:
            _logger.info("Executing model.load()...")
            began = time.monotonic()
            try:
                if is_async(load):
                    await self._finish_on_loop(load())
                else:
                    returned = await self._on_predict_thread(load)
                    if inspect.isawaitable(returned):  # a plain function around a coroutine
                        await self._finish_on_loop(returned)
            except LoadError:
                tries_left -= 1
                if not tries_left:
                    raise
                _logger.warning("model.load() failed; trying again in %g s", LOAD_PAUSE_S, exc_info=True)
                await asyncio.sleep(LOAD_PAUSE_S)
            else:
                _logger.info("Completed model.load() execution in %d ms", (time.monotonic() - began) * 1000)
                return

    async def _finish_on_loop(self, loading: Awaitable[Any]) -> None:
        task = asyncio.create_task(as_pair(loading))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:  # of this, not of what `load` waits for
            task.cancel()
            raise
        _, error = task.result()
        if error is not None:
            raise LoadError(f"{type(error).__name__}: {text_of(error)}") from error

    def _lay_out(self, contract: Contract) -> None:
        """Decide, once, where each step runs and what follows it."""
        predict_slots = Slots(self._slot_count)
        step: Step | None = None
        for method in (contract.postprocess, contract.predict, contract.preprocess):
            if method is not None:
                is_predict = method is contract.predict
                workers = self._predict_workers if is_predict else self._side_workers
                step = self._make_step(method, workers, step, predict_slots if is_predict else None)
        if step is None or contract.predict is None:
            return
        self._start = step.start
        if contract.predict.kind in _ON_LOOP:
            self._predict_workers.start(min(self._slot_count, MAX_STREAM_THREADS))
        else:
            self._predict_workers.start(self._slot_count)
        if contract.preprocess is not None or contract.postprocess is not None:
            self._side_workers.start(SIDE_THREADS)

    def _make_step(self, method: Method, workers: Workers, following: Step | None, slots: Slots | None) -> Step:
        if method.kind in _ON_LOOP:
            return LoopStep(self._hall, method, workers, following, slots)
        self._needs_context = True
        return ThreadStep(self._hall, method, workers, following)


def _import_websockets() -> None:
    """At start and off the loop, so that the first connection need not wait for it."""
    try:
        import websockets.server  # noqa: F401
    except ImportError:
        raise ModelDefinitionError(
            "the model has a `websocket` method, and the websockets library is not installed: "
            "pip install 'fastserve[websocket]'"
        ) from None


def _load_retries() -> int:
    said = os.environ.get(LOAD_RETRIES_VARIABLE, "")
    if not said:
        return LOAD_RETRIES
    if not (said.isascii() and said.isdigit()):
        raise SetupError(f"{LOAD_RETRIES_VARIABLE} takes a whole number, not {said!r}")
    return int(said)
