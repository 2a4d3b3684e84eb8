"""The one door to the model: `load()`, its entries, `stop()`.

Counts what is in flight; owns the worker threads. Which step runs where is laid out here, once, and walked in
`steps.py`. Called by `server.py` and the endpoints.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final

from fastserve.config import Config
from fastserve.errors import LoadError, ModelDefinitionError, SetupError, text_of
from fastserve.model.contract import OPENAI_METHODS, Contract, Kind, Method, read_contract
from fastserve.model.directory import ModelDirectory
from fastserve.model.environment import EnvironmentWatch, log_setting_up
from fastserve.model.exposition import ModelMetrics
from fastserve.model.health import HealthCheck
from fastserve.model.hooks import Hooks, check_hooks
from fastserve.model.loader import find_load, is_async, make_model
from fastserve.model.slots import Slots
from fastserve.model.steps import Hall, Job, LoopStep, Step, ThreadStep, as_pair
from fastserve.model.streams import Stream, StreamBudget
from fastserve.model.threads import Workers
from fastserve.model.typed import PREDICT, InputType, Unread, read_inputs

_logger: Final = logging.getLogger("fastserve")

# Truss's own number of threads for everything that is not async: a preprocess that waits for a network sees the same
# parallelism. A sleeping one costs some 20 KB and no time (threads.py).
SIDE_THREADS: Final = 40
# Coroutine slots may be thousands; the threads that iterate the generators they return need not be.
MAX_STREAM_THREADS: Final = 40
# For `is_healthy` and `setup_environment`: the few probes that one platform makes at a time.
HOOK_THREADS: Final = 4
# Scrapes come one at a time, from one Prometheus.
SCRAPE_THREADS: Final = 1
# Truss: `load` is tried once more, after a second; its variable sets how often.
LOAD_RETRIES_VARIABLE: Final = "NUM_LOAD_RETRIES_TRUSS"
LOAD_RETRIES: Final = 1
LOAD_PAUSE_S: Final = 1.0

_ON_LOOP: Final = frozenset({Kind.COROUTINE, Kind.ASYNC_GENERATOR})


class Entry:
    """One way into the model: a method that requests call, and those before and after it.

    exists: the model has this method. takes_request: one of them wants the request.
    input_type: what the payload must be; None if any will do.
    """

    __slots__ = ("_needs_context", "_runtime", "_start", "exists", "first", "input_type", "last", "takes_request")

    _start: Callable[[Job], None]  # the first step's
    first: Method  # given what the request brings
    last: Method  # its result is the answer

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.exists = False
        self.takes_request = False
        self.input_type: InputType | Unread | None = None
        self._needs_context = False  # some step runs on a thread

    def lay(self, methods: Sequence[Method], start: Callable[[Job], None]) -> None:
        """Lead to `methods`, of which `start` begins the first."""
        self.first, self.last = methods[0], methods[-1]
        self._start = start
        self._needs_context = any(method.kind not in _ON_LOOP for method in methods)
        self.takes_request = any(method.request_type is not None for method in methods)
        self.exists = True

    def close(self) -> None:
        """The model has no such method."""
        self.exists = False

    def submit(self, job: Job) -> None:
        """Send `job` on its way; `job.on_result` is called once, on the loop, when it is over. If it `exists`."""
        self._runtime.in_flight += 1
        if self._needs_context:
            job.context = copy_context()
        self._start(job)


class Runtime:
    """One model, loaded and run.

    predict, openai: the ways in, there from the start and open once the model is loaded.
    in_flight: jobs submitted and tasks begun that are not over, those included whose client has gone.
    health: set by `load`; None for a model without `is_healthy`.
    environment: set by `load`, and to be run once the server is ready; None for a model without `setup_environment`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: ModelDirectory, config: Config) -> None:
        self._directory = directory
        self._config = config
        self._slot_count = config.predict_concurrency
        budget = StreamBudget(config.stream_buffer_bytes, config.stream_buffers_bytes)
        self._hall = Hall(loop, budget, self._finish)
        self._predict_workers = Workers("fastserve-predict", loop)
        self._side_workers = Workers("fastserve-side", loop)
        completions = self._hall.completions
        self._hooks = Hooks("fastserve-hook", HOOK_THREADS, loop, completions, str(directory.path))
        self._scrapes = Hooks("fastserve-scrape", SCRAPE_THREADS, loop, completions, str(directory.path))
        self._metrics = ModelMetrics()
        self.health: HealthCheck | None = None
        self.environment: EnvironmentWatch | None = None
        self.contract: Contract  # set by load
        self.inputs: dict[str, InputType | Unread]  # set by load; see typed.read_inputs
        self.predict = Entry(self)
        self.openai = {name: Entry(self) for name in OPENAI_METHODS}
        self.in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Future[None] | None = None  # awaited by wait_idle

    async def load(self) -> None:
        """Import the model, make it, tell it its environment, call its `load`; it can be submitted to afterwards.

        `__init__`, a sync `load` and, with one slot, every sync predict run on the same thread: torch keeps grad
        mode, device and stream per thread, and what `load` set must still be set in `predict`.
        Raises SetupError, ModelDefinitionError, or LoadError whose cause is what user code raised.
        """
        self._predict_workers.start(1)
        self._model = model = await self._on_predict_thread(lambda: make_model(self._directory, self._config))
        await self._on_predict_thread(self._metrics.strip)
        self.contract = contract = await self._on_predict_thread(lambda: read_contract(model))
        self.inputs = await self._on_predict_thread(lambda: read_inputs(contract, self._config.typed_inputs))
        check_hooks(contract)
        if contract.websocket is not None:
            await self._on_predict_thread(_import_websockets)
        if contract.setup_environment is not None:
            path = Path(self._config.dynamic_config_path)
            self.environment = EnvironmentWatch(path, contract.setup_environment, self._hooks)
            await self._tell_environment(contract.setup_environment, self.environment)
        await self._load_with_retries(find_load(model))
        if contract.is_healthy is not None:
            self.health = HealthCheck(contract.is_healthy, self._hooks)
        self._lay_out(contract)

    def run_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which never raises, as a task that counts as in flight."""
        self.in_flight += 1
        task = self._hall.loop.create_task(work)
        self._tasks.add(task)  # the loop holds it only weakly
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.in_flight -= 1
        self._tell_idle()

    def open_stream(self, job: Job, *, stops_unread: bool) -> Stream:
        """A stream for `job` that the loop produces; as `Hall.open_stream`."""
        return self._hall.open_stream(job, on_loop=True, stops_unread=stops_unread)

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
        has_ended = [
            self._predict_workers.stop(),
            self._side_workers.stop(),
            self._hooks.stop(),
            self._scrapes.stop(),
        ]
        return all(has_ended)

    async def scrape(self, accept: str, names: Sequence[str]) -> tuple[tuple[bytes, str], BaseException | None]:
        """What the model registers with prometheus_client (ModelMetrics.expose), or what its collectors raise.

        From the start on, not only after `load`. Raises only CancelledError.
        """
        return await self._scrapes.on_thread(lambda: self._metrics.expose(accept, names))

    def call_behind(self, function: Callable[[], None]) -> None:
        """Call `function` on the loop once a thread is free that plain calls run on: where Truss answers liveness."""
        workers = self._side_workers
        if self._slot_count >= SIDE_THREADS and self.predict.exists:
            workers = self._predict_workers  # with fewer slots Truss's pool has a thread left whatever predict does
        else:
            workers.start(SIDE_THREADS)
        back = self._hall.completions.put
        workers.put(lambda done: back(lambda _: done(), None), function)

    async def wait_idle(self) -> None:
        """Until nothing is in flight."""
        while self.in_flight:
            self._idle = self._hall.loop.create_future()
            await self._idle

    def _finish(self, job: Job) -> None:
        self.in_flight -= 1
        job.on_result()
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
                await self._call_at_start(load)
            except LoadError:
                tries_left -= 1
                if not tries_left:
                    raise
                _logger.warning("model.load() failed; trying again in %g s", LOAD_PAUSE_S, exc_info=True)
                await asyncio.sleep(LOAD_PAUSE_S)
            else:
                _logger.info("Completed model.load() execution in %d ms", (time.monotonic() - began) * 1000)
                return

    async def _tell_environment(self, method: Method, watch: EnvironmentWatch) -> None:
        """Call `setup_environment` if there is an environment. Raises LoadError or SetupError."""
        first = await self._on_predict_thread(watch.first)
        if first is not None:
            log_setting_up(*first)
            await self._call_at_start(functools.partial(method.call, *first))

    async def _call_at_start(self, function: Callable[[], Any]) -> None:
        """On the thread of `load`, or on the loop if it is async. Raises LoadError."""
        if is_async(function) and "unawaited-load" in self._config.truss_quirks:
            function().close()
            _logger.warning("an `async def` is not awaited at start: that is Truss's unawaited-load")
        elif is_async(function):
            await self._finish_on_loop(function())
        else:
            returned = await self._on_predict_thread(function)
            if inspect.isawaitable(returned):  # a plain function around a coroutine
                await self._finish_on_loop(returned)

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
        chain = [m for m in (contract.preprocess, contract.predict, contract.postprocess) if m is not None]
        self._lay(self.predict, chain if contract.predict is not None else [])
        self.predict.input_type = self.inputs.get(PREDICT)
        for name, entry in self.openai.items():
            takes_predicts = "predict-annotations" in self._config.truss_quirks
            entry.input_type = self.inputs.get(PREDICT if takes_predicts else name)
            self._lay(entry, [contract.openai[name]] if name in contract.openai else [])
        if contract.predict is not None:
            is_on_loop = contract.predict.kind in _ON_LOOP
            self._predict_workers.start(min(self._slot_count, MAX_STREAM_THREADS) if is_on_loop else self._slot_count)
        if len(chain) > 1 or contract.openai:
            self._side_workers.start(SIDE_THREADS)

    def _lay(self, entry: Entry, methods: Sequence[Method]) -> None:
        if not methods:
            entry.close()
            return
        step: Step | None = None
        for method in reversed(methods):
            step = self._make_step(method, step)
        assert step is not None
        entry.lay(methods, step.start)

    def _make_step(self, method: Method, following: Step | None) -> Step:
        is_predict = method.name == "predict"
        workers = self._predict_workers if is_predict else self._side_workers
        if method.kind in _ON_LOOP:
            return LoopStep(self._hall, method, workers, following, Slots(self._slot_count) if is_predict else None)
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
