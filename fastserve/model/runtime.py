"""The one door to the model: `load()`, its entries, `stop()`.

The door stays while the model behind it may be loaded anew: what belongs to one version of it is in `version.py`.
Called by `server.py` and the endpoints.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from fastserve.config import Config
from fastserve.gpus import Gpu, Gpus
from fastserve.model.condition import Condition
from fastserve.model.contract import OPENAI_METHODS, Contract, Method
from fastserve.model.directory import ModelDirectory
from fastserve.model.environment import EnvironmentWatch
from fastserve.model.exposition import ModelMetrics
from fastserve.model.health import HealthCheck
from fastserve.model.hooks import Hooks
from fastserve.model.in_flight import Load
from fastserve.model.steps import Job, Step, as_pair
from fastserve.model.streams import Stream, StreamBudget
from fastserve.model.tally import Tally
from fastserve.model.threads import Completions, Workers
from fastserve.model.typed import PREDICT, InputType, Unread
from fastserve.model.version import ON_LOOP, Version

if TYPE_CHECKING:
    from fastserve.model.batches import Batches

# For `is_healthy` and `setup_environment`: the few probes that one platform makes at a time.
HOOK_THREADS: Final = 4
# Scrapes come one at a time, from one Prometheus.
SCRAPE_THREADS: Final = 1


class Entry:
    """One way into the model: a method that requests call, and those before and after it.

    exists: the model has this method. takes_request: one of them wants the request.
    input_type: what the payload must be; None if any will do.
    steps: the names of its methods, in order.
    predict_at: where in `Job.times` the step begins that the metrics call the predict: it alone, or the only one.
    batches: what is counted of them; None if it takes one request at a time.
    """

    __slots__ = (
        "_needs_context",
        "_places",
        "_start",
        "_steps",
        "batches",
        "exists",
        "first",
        "input_type",
        "last",
        "load",
        "predict_at",
        "steps",
        "takes_request",
    )

    _steps: list[Step]
    _start: Callable[[Job], None]  # the first step's
    load: Load  # on the version that is led to
    first: Method  # given what the request brings
    last: Method  # its result is the answer

    def __init__(self) -> None:
        self.exists = False
        self.load = Load()
        self.takes_request = False
        self.predict_at = 1
        self.steps: list[str] = []
        self.input_type: InputType | Unread | None = None
        self.batches: Batches | None = None
        self._needs_context = False  # some step runs on a thread

    def lay(self, methods: Sequence[Method], version: Version) -> None:
        """Lead to `methods` of `version`, one or more; each hands on to the next."""
        self.first, self.last = methods[0], methods[-1]
        self._steps = version.steps_of(methods)
        self._start = self._steps[0].enter
        self.steps = [method.name for method in methods]
        self.predict_at = 1 + 2 * next((at for at, method in enumerate(methods) if method.name == "predict"), 0)
        self.batches = version.batches if "predict" in self.steps else None
        self._places = version.places_for(methods)
        self.load = version.in_flight.add_load()
        self._needs_context = any(method.kind not in ON_LOOP for method in methods)
        self.takes_request = any(method.request_type is not None for method in methods)
        self.exists = True

    @property
    def at_once(self) -> int:
        """How many of its requests can be at work. If it `exists`."""
        return self._places if self.batches is None else self._places * self.batches.at_once

    def close(self) -> None:
        """The model has no such method; nothing of one that an earlier version had is kept."""
        if self.exists:
            del self.first, self.last, self._steps, self._start
            self.load = Load()
            self.batches = None
        self.exists = False

    def submit(self, job: Job) -> None:
        """Send `job` on its way; `job.on_result` is called once, on the loop, when it is over. If it `exists`."""
        job.load = load = self.load
        load.jobs += 1  # `reserve`, written out: two frames less for each request
        if self._needs_context:
            job.context = copy_context()
        self._start(job)

    def reserve(self, job: Job) -> Callable[[], None]:
        """As `submit`, in two steps: what is returned sends `job` on its way, through the model as it is now."""
        job.load = load = self.load
        load.jobs += 1
        load.size += job.size
        if self._needs_context:
            job.context = copy_context()
        return functools.partial(self._start, job)

    def withdraw(self, job: Job) -> None:
        """End `job`, which is cancelled, now if it waits for a step."""
        if self.exists and job.running is None:
            for step in self._steps:  # it waits for one of them
                step.withdraw(job)

    def stage_of(self, job: Job) -> str:
        """What is being done for `job`: the name of a method, `queue` or `stream`."""
        if job.stream is not None:
            return "stream"
        return "queue" if job.running is None else job.running.name


class Runtime:
    """One model, loaded and run.

    predict, openai: the ways in, there from the start and open once the model is loaded.
    version: the one that serves; None until the model is loaded.
    contract, inputs, health, environment: that version's; set by `adopt`.
    on_adopted: called, on the loop, each time another version has begun to serve.
    condition: how the model is, whatever its version.
    gpus: that this process may use.
    """

    contract: Contract
    inputs: dict[str, InputType | Unread]

    def __init__(
        self, loop: asyncio.AbstractEventLoop, directory: ModelDirectory, config: Config, tracer: Any = None
    ) -> None:
        """tracer: OpenTelemetry's, for spans of the model's methods; None for none."""
        self._loop = loop
        self._directory = directory
        self._config = config
        self._tracer = tracer
        self._budget = StreamBudget(config.stream_buffer_bytes, config.stream_buffers_bytes)
        completions = Completions(loop)
        self._hooks = Hooks("fastserve-hook", HOOK_THREADS, loop, completions, str(directory.path))
        self._scrapes = Hooks("fastserve-scrape", SCRAPE_THREADS, loop, completions, str(directory.path))
        self._metrics = ModelMetrics()
        self.version: Version | None = None
        self._versions: list[Version] = []  # all whose threads may still run
        self._gone = Tally()  # of those that are no more
        self.condition = Condition(loop, config, str(directory.path), self._pools)
        self.gpus = Gpus()
        self.health: HealthCheck | None = None
        self.environment: EnvironmentWatch | None = None
        self.predict = Entry()
        self.openai = {name: Entry() for name in OPENAI_METHODS}
        self.on_adopted: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Load the model; it can be submitted to afterwards. Raises as `Version.load`."""
        self.adopt(await self.prepare(self._directory))

    async def prepare(self, directory: ModelDirectory) -> Version:
        """Load the model in `directory`, on threads of its own; it serves once it is adopted.

        Raises as `Version.load`.
        """
        shortage = self.condition.shortage
        version = Version(self._loop, directory, self._config, self._budget, self._hooks, shortage, self._tracer)
        self._versions.append(version)
        try:
            await version.load(self._metrics)
        except Exception:
            if version.stop():
                self.forget(version)
            raise
        if self.gpus.are_readable:
            await self._scrapes.on_thread(self.gpus.open)
        return version

    def _pools(self) -> list[Workers]:
        """The threads that run what requests ask for."""
        return [pool for version in self._versions for pool in version.pools]

    def adopt(self, version: Version) -> None:
        """Have all further requests go to `version`. One before it goes on with what it has begun."""
        self.version = version
        self.condition.shortage.end()
        version.start_threads()
        self.contract, self.inputs = version.contract, version.inputs
        self.health, self.environment = version.health, version.environment
        contract = version.contract
        chain = [m for m in (contract.preprocess, contract.predict, contract.postprocess) if m is not None]
        self._lay(self.predict, PREDICT, chain if contract.predict is not None else [])
        takes_predicts = "predict-annotations" in self._config.truss_quirks
        for name, entry in self.openai.items():
            self._lay(
                entry, PREDICT if takes_predicts else name, [contract.openai[name]] if name in contract.openai else []
            )
        for tell in self.on_adopted:
            tell()

    def _lay(self, entry: Entry, input_of: str, methods: Sequence[Method]) -> None:
        assert self.version is not None
        entry.input_type = self.inputs.get(input_of)
        if methods:
            entry.lay(methods, self.version)
        else:
            entry.close()

    def forget(self, version: Version) -> None:
        """A version that does not serve has nothing in flight and no thread left."""
        self._versions.remove(version)
        self._gone = self._gone.plus(version)

    def tally(self) -> Tally:
        """What all versions have counted."""
        return functools.reduce(Tally.plus, self._versions, self._gone)

    @property
    def in_flight(self) -> int:
        """Jobs submitted and tasks begun that are not over, those included whose client has gone."""
        return sum(version.in_flight.count for version in self._versions)

    @property
    def slots(self) -> int:
        """Predicts that may run at once."""
        return self._config.predict_concurrency

    @property
    def queued(self) -> int:
        """Requests that wait for a predict slot, or outside of those for a thread."""
        return sum(version.queued for version in self._versions)

    def run_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which never raises, as a task that counts as in flight."""
        assert self.version is not None
        in_flight = self.version.in_flight
        in_flight.tasks += 1
        task = self._loop.create_task(work)
        self._tasks.add(task)  # the loop holds it only weakly

        def finish(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            in_flight.tasks -= 1
            in_flight.tell()

        task.add_done_callback(finish)

    def open_stream(self, job: Job, *, stops_unread: bool) -> Stream:
        """A stream for `job` that the loop produces; as `Hall.open_stream`."""
        assert self.version is not None
        return self.version.hall.open_stream(job, on_loop=True, stops_unread=stops_unread)

    async def attend(self, make_websocket: Callable[[], Any]) -> BaseException | None:
        """Run the model's `websocket` method on what `make_websocket` makes. Returns what was raised; raises nothing.

        In flight, and in no predict slot.
        """
        assert self.version is not None
        method, in_flight, hall = self.contract.websocket, self.version.in_flight, self.version.hall
        assert method is not None
        call = method.call

        async def run() -> None:
            await call(make_websocket())

        in_flight.tasks += 1
        _, error = await as_pair(run())
        in_flight.tasks -= 1
        in_flight.tell()
        if error is None:
            self.condition.shortage.end()
        else:
            hall.on_failure(error, True)
        return error

    def stop(self) -> bool:
        """End the threads. Returns False if one is stuck in user code and cannot be ended."""
        has_ended = [version.stop() for version in self._versions]
        return all([*has_ended, self._hooks.stop(), self._scrapes.stop()])

    async def scrape(self, accept: str, names: Sequence[str]) -> tuple[tuple[bytes, str], BaseException | None]:
        """What the model registers with prometheus_client (ModelMetrics.expose), or what its collectors raise.

        From the start on, not only after `load`. Raises only CancelledError.
        """
        return await self._scrapes.on_thread(lambda: self._metrics.expose(accept, names))

    async def read_gpus(self) -> list[Gpu]:
        """Each as it is now; none before the model is loaded. Raises only CancelledError."""
        if not self.gpus.at_load:
            return []
        gpus, _ = await self._scrapes.on_thread(self.gpus.read)
        return gpus or []

    def call_behind(self, function: Callable[[], None]) -> None:
        """Call `function` on the loop once a thread is free that plain calls run on: where Truss answers liveness."""
        if self.version is None:
            function()
        else:
            self.version.call_behind(function)

    async def wait_idle(self) -> None:
        """Until nothing is in flight."""
        while busy := [version for version in self._versions if version.in_flight.count]:
            await busy[0].in_flight.wait_idle()
