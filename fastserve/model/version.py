"""One version of the model: the object, what it can do, the threads that run it, what is in flight in it.

Loaded on a thread of its own, so that another version may serve meanwhile. Which step runs where is decided here,
once, and walked in `steps.py`. Made and put in its place by `runtime.py`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastserve.config import Config
from fastserve.errors import LoadError, ModelDefinitionError, SetupError, text_of
from fastserve.logs import trimmed
from fastserve.model.batching import read_batching
from fastserve.model.contract import Contract, Kind, Method, read_contract
from fastserve.model.cpu_threads import share_cores
from fastserve.model.directory import ModelDirectory
from fastserve.model.environment import EnvironmentWatch, log_setting_up
from fastserve.model.exposition import ModelMetrics
from fastserve.model.health import HealthCheck
from fastserve.model.hooks import Hooks, check_hooks
from fastserve.model.in_flight import InFlight
from fastserve.model.inference import InferenceStep, find_inference_mode
from fastserve.model.loader import find_load, is_async, make_model
from fastserve.model.memory import Shortage
from fastserve.model.mishaps import Mishaps
from fastserve.model.slots import Slots
from fastserve.model.steps import Hall, Job, LoopStep, Step, ThreadStep, as_pair
from fastserve.model.streams import StreamBudget
from fastserve.model.threads import Workers
from fastserve.model.typed import InputType, Unread, read_inputs

if TYPE_CHECKING:
    from fastserve.model.batches import Batches

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

ON_LOOP: Final = frozenset({Kind.COROUTINE, Kind.ASYNC_GENERATOR})


class Version:
    """The model as it was when its files were read.

    hall: what its steps share. in_flight: jobs and tasks that are not over.
    batches: what its batch steps share; None for a model that asks for no batches.
    pools: the threads that run what requests ask for; none before `start_threads`.
    contract, inputs (see typed.read_inputs): set by `load`.
    health: set by `load`; None for a model without `is_healthy`.
    environment: set by `load`, and to be run once the server is ready; None for a model without `setup_environment`.
    """

    contract: Contract
    inputs: dict[str, InputType | Unread]
    _inference_mode: Any  # torch's; None unless predict runs in it

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: ModelDirectory,
        config: Config,
        budget: StreamBudget,
        hooks: Hooks,
        shortage: Shortage,
        tracer: Any,
    ) -> None:
        """tracer: as a Runtime takes it."""
        self._directory = directory
        self._config = config
        self._hooks = hooks
        self._tracer = tracer
        self._slots = Slots(config.predict_concurrency)  # of a predict on the loop
        self.hall = Hall(loop, budget, self._finish)
        mishaps = Mishaps(self.hall, shortage)
        self._predict_workers = Workers("fastserve-predict", loop, mishaps.on_lost)
        self._side_workers = Workers("fastserve-side", loop, mishaps.on_lost)
        mishaps.pools = (self._predict_workers, self._side_workers)
        self.pools: tuple[Workers, ...] = ()
        self.in_flight = InFlight()
        self.batches = _make_batches(directory)
        self.health: HealthCheck | None = None
        self.environment: EnvironmentWatch | None = None

    async def load(self, metrics: ModelMetrics) -> None:
        """Import the model, make it, tell it its environment, call its `load`.

        `__init__`, a sync `load` and, with one slot, every sync predict run on the same thread: torch keeps grad
        mode, device and stream per thread, and what `load` set must still be set in `predict`.
        Raises SetupError, ModelDefinitionError, or LoadError whose cause is what user code raised.
        """
        self._predict_workers.start(1)
        self._model = model = await self._on_predict_thread(lambda: make_model(self._directory, self._config))
        await self._on_predict_thread(metrics.strip)
        await self._on_predict_thread(self._read)
        predict = self.contract.predict
        if predict is not None and predict.kind not in ON_LOOP:  # a coroutine's slots are no threads that compute
            await self._on_predict_thread(lambda: share_cores(self._config.predict_concurrency))
        if self.contract.setup_environment is not None and self.environment is not None:
            await self._tell_environment(self.contract.setup_environment, self.environment)
        await self._load_with_retries(await self._on_predict_thread(lambda: find_load(model)))

    def take_class(self, model_class: type) -> None:
        """Have the living model be of `model_class`, without `__init__` or `load`. If that fails it is as before.

        Raises ModelDefinitionError, or whatever the user's code does. On any thread but the loop's: user code runs.
        """
        before = type(self._model)
        self._model.__class__ = model_class
        try:
            self._read()
        except BaseException:
            self._model.__class__ = before
            raise

    def _read(self) -> None:
        """Learn what the model can do."""
        contract = read_contract(self._model)
        if self.batches is not None:
            contract = self.batches.read(self._model, contract)
        inputs = read_inputs(contract, self._config.typed_inputs)
        check_hooks(contract)
        self._inference_mode = find_inference_mode(contract) if self._config.inference_mode else None
        if contract.websocket is not None:
            _import_websockets()
        set_up, is_healthy = contract.setup_environment, contract.is_healthy
        path = Path(self._config.dynamic_config_path)
        self.environment = None if set_up is None else EnvironmentWatch(path, set_up, self._hooks)
        self.health = None if is_healthy is None else HealthCheck(is_healthy, self._hooks)
        self.contract, self.inputs = contract, inputs

    def stop(self) -> bool:
        """End the threads. Returns False if one is stuck in user code and cannot be ended."""
        if self.batches is not None:
            self.batches.close()
        has_ended = [self._predict_workers.stop(), self._side_workers.stop()]
        return all(has_ended)

    def _finish(self, job: Job) -> None:
        load = job.load
        if load is None:  # a thread was struck while it handed the job on
            return
        job.load = None
        load.jobs -= 1
        if job.size:
            load.size -= job.size
        job.on_result()
        if self.in_flight.is_awaited:  # spares a call for each request
            self.in_flight.tell()

    async def _on_predict_thread(self, function: Callable[[], Any]) -> Any:
        return await self._predict_workers.call(lambda: guarded(function), self.hall.completions)

    async def _load_with_retries(self, load: Callable[[], Any] | None) -> None:
        if load is None:
            return
        tries_left = 1 + (0 if self._config.reload else _load_retries())  # whoever edits it wants the error at once
        while True:
            _logger.info("Executing model.load()...")
            began = time.monotonic()
            try:
                await self._call_at_start(load)
            except LoadError as error:
                tries_left -= 1
                if not tries_left:
                    raise
                shown = trimmed(error.__cause__ or error, str(self._directory.path))
                _logger.warning("model.load() failed; trying again in %g s", LOAD_PAUSE_S, exc_info=shown)
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
            guarded(function).close()
            _logger.warning("an `async def` is not awaited at start: that is Truss's unawaited-load")
        elif is_async(function):
            await self._finish_on_loop(guarded(function))
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

    @property
    def queued(self) -> int:
        """Requests that wait for a predict slot, or outside of those for a thread."""
        aside = self._side_workers.waiting
        if self.batches is not None:
            return aside + self.batches.queued
        return aside + self._predict_workers.waiting + self._slots.waits

    def start_threads(self) -> None:
        """Have as many as its methods may use. More may be started later."""
        contract, slot_count = self.contract, self._config.predict_concurrency
        self.pools = (self._predict_workers, self._side_workers)
        if contract.predict is not None:
            is_on_loop = contract.predict.kind in ON_LOOP
            self._predict_workers.start(min(slot_count, MAX_STREAM_THREADS) if is_on_loop else slot_count)
        if contract.preprocess or contract.postprocess or contract.openai:
            self._side_workers.start(SIDE_THREADS)

    def call_behind(self, function: Callable[[], None]) -> None:
        """Call `function` on the loop once a thread is free that plain calls run on."""
        workers = self._side_workers
        if self._config.predict_concurrency >= SIDE_THREADS and self.contract.predict is not None:
            workers = self._predict_workers  # with fewer slots Truss's pool has a thread left whatever predict does
        else:
            workers.start(SIDE_THREADS)
        back = self.hall.completions.put
        workers.put(lambda done: back(lambda _: done(), None), function)

    def places_for(self, methods: Sequence[Method]) -> int:
        """How many requests can be at `methods` at once: of coroutines outside the predict slots any number."""
        if any(method.name == "predict" for method in methods):
            return self._config.predict_concurrency
        return sys.maxsize if all(method.kind in ON_LOOP for method in methods) else SIDE_THREADS

    def steps_of(self, methods: Sequence[Method]) -> list[Step]:
        """`methods` as steps, each of which hands on to the next."""
        steps: list[Step] = []
        for method in reversed(methods):
            steps.insert(0, self._make_step(method, steps[0] if steps else None))
        return steps

    def _make_step(self, method: Method, following: Step | None) -> Step:
        if self._tracer is not None:
            from fastserve.model.spans import with_spans

            method = with_spans(method, self._tracer)
        is_predict = method.name == "predict"
        workers = self._predict_workers if is_predict else self._side_workers
        if is_predict and self.batches is not None:
            return self._make_batch_step(method, following, self.batches)
        if method.kind in ON_LOOP:
            return LoopStep(self.hall, method, workers, following, self._slots if is_predict else None)
        if is_predict and self._inference_mode is not None:
            return InferenceStep(self.hall, method, workers, following, self._inference_mode)
        return ThreadStep(self.hall, method, workers, following)

    def _make_batch_step(self, method: Method, following: Step | None, batches: Batches) -> Step:
        if method.kind in ON_LOOP:
            from fastserve.model.loop_batches import LoopBatchStep

            return LoopBatchStep(self.hall, method, self._predict_workers, following, batches, self._slots)
        from fastserve.model.thread_batches import InferenceBatchStep, ThreadBatchStep

        if self._inference_mode is not None:
            return InferenceBatchStep(
                self.hall, method, self._predict_workers, following, batches, self._inference_mode
            )
        return ThreadBatchStep(self.hall, method, self._predict_workers, following, batches)


def _make_batches(directory: ModelDirectory) -> Batches | None:
    """Imports what batches need only for a model that asks for them."""
    settings = read_batching(directory)
    if settings is None:
        return None
    from fastserve.model.batches import Batches

    return Batches(settings)


def guarded(function: Callable[[], Any]) -> Any:
    """What `function`, user code, returns. Raises SetupError, ModelDefinitionError, or LoadError for all the rest."""
    try:
        return function()
    except (SetupError, ModelDefinitionError):
        raise
    except BaseException as error:  # SystemExit included: user code does not end the server like that
        raise LoadError(f"{type(error).__name__}: {text_of(error)}") from error


def _import_websockets() -> None:
    """At start and off the loop, so that the first connection need not wait for it."""
    try:
        import websockets.server  # noqa: F401
    except ImportError:
        raise ModelDefinitionError(
            "the model has a `websocket` method, and the websockets library is not installed: "
            "pip install 'fastserve[websocket]'"
        ) from None


def log_load_error(error: LoadError, directory: str) -> None:
    """Log what user code raised, its traceback trimmed to the frames from `directory` on."""
    _logger.error("Exception while loading model", exc_info=trimmed(error.__cause__ or error, directory))


def _load_retries() -> int:
    said = os.environ.get(LOAD_RETRIES_VARIABLE, "")
    if not said:
        return LOAD_RETRIES
    if not (said.isascii() and said.isdigit()):
        raise SetupError(f"{LOAD_RETRIES_VARIABLE} takes a whole number, not {said!r}")
    return int(said)
