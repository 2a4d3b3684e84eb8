"""The one file that joins the rooms: bind, load, accept, drain, stop.

Called by `cli.py` with a directory and a config that are good.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvloop

from fastserve.allocator import keep_freed_memory
from fastserve.config import KEYS_VARIABLE, Config
from fastserve.endpoints.metrics import MetricsPage
from fastserve.endpoints.paths import Answer, Finder
from fastserve.endpoints.predict import MethodEndpoint
from fastserve.endpoints.probes import Health, Readiness, WaitingLiveness, answer_liveness
from fastserve.endpoints.router import Endpoints, ProbeRouter, Router
from fastserve.endpoints.schema import Schemas
from fastserve.endpoints.websocket import WebSocketEndpoint
from fastserve.entrance import Entrance
from fastserve.errors import LoadError, ModelError, SetupError
from fastserve.forks import part_signals_at_fork
from fastserve.http11.acceptor import Acceptor
from fastserve.http11.connection import Connection
from fastserve.http11.deadlines import TICK_S
from fastserve.http11.listener import Listener
from fastserve.lifecycle import Lifecycle, State
from fastserve.metrics import Metrics
from fastserve.model.directory import ModelDirectory
from fastserve.model.loader import prepare_process
from fastserve.model.runtime import Entry, Runtime
from fastserve.model.version import log_load_error
from fastserve.telemetry import Telemetry, find_telemetry

if TYPE_CHECKING:
    from fastserve.metrics_port import MetricsPort
    from fastserve.model.reload import Reloader, Reread

_logger: Final = logging.getLogger("fastserve")
# Told whatever the log level: with --port 0 nobody could know it otherwise.
_address_logger: Final = logging.getLogger("fastserve.address")
_address_logger.setLevel(logging.INFO)

T = TypeVar("T")

# What is left of tasks when the server stops has this long to end.
CANCEL_S: Final = 1.0

# How long what is in flight may take when the process ends for want of memory: whatever runs will most likely fail.
OOM_DRAIN_S: Final = 30.0

HEARD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT


def run(directory: ModelDirectory, config: Config, reread: Reread) -> int:
    """Serve until a signal or a failed load. Returns the process's exit status.

    reread: both anew, as they are when it is called; for --reload. Raises SetupError.
    Raises SetupError if the address cannot be listened on, keys or a certificate cannot be read, or the model's
    directory turns out to be wrong.
    """
    sys.setswitchinterval(config.switch_interval_s)
    part_signals_at_fork()
    keep_freed_memory()
    environ = dict(os.environ)
    os.environ.pop(KEYS_VARIABLE, None)  # a model that shows its environment, or hands it on, shows no key
    prepare_process(directory)
    handlers = {number: signal.getsignal(number) for number in HEARD}
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        server = Server(loop, directory, config, reread, environ)
        status = _run_to_end(loop, loop.create_task(server.serve()))
        _run_to_end(loop, loop.create_task(_end_generators(loop)))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if not server.has_ended_threads or not _join_threads():
        _exit_now(status)  # a thread is stuck in user code; only the end of the process ends it
    return status


def _run_to_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    """Run the loop until `task` is done. What the model does that stops it, such as a task that exits, is logged."""
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            _logger.error("a task of the model raised %s; the server goes on", type(error).__name__)
        except RuntimeError:  # "Event loop stopped before Future completed."
            if task.done() or loop.is_closed():
                raise
            _logger.error("the model stopped the event loop; the server goes on")


async def _end_generators(loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.shutdown_asyncgens(), CANCEL_S)


def _join_threads() -> bool:
    """Wait a little for threads that user code started and Python would wait for. Returns whether all have ended."""
    deadline = time.monotonic() + CANCEL_S
    started = [t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in started)


class Server:
    """One model behind one listening socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: ModelDirectory,
        config: Config,
        reread: Reread,
        environ: Mapping[str, str],
    ) -> None:
        """reread, environ: as a Reloader takes them. Raises SetupError if API keys or a certificate are wrong."""
        self._loop = loop
        self._directory = directory
        self._config = config
        self._lifecycle = Lifecycle()
        self._metrics = Metrics()
        self._name: str = directory.config["model_name"] or directory.path.name
        self._telemetry = find_telemetry(environ, self._name)
        self._runtime = Runtime(loop, directory, config, self._telemetry and self._telemetry.tracer)
        self._runtime.on_adopted.append(self._watch_environment)
        self._reloader = self._make_reloader(reread, environ) if config.reload else None
        if self._telemetry is not None:  # whose spans are the ids of all requests
            config = dataclasses.replace(config, request_ids="all")
            self._runtime.on_adopted.append(self._telemetry.provide)
        self._entrance = Entrance(config, environ)
        endpoints = self._endpoints()
        route = Router(endpoints, self._metrics, has_metrics=not config.metrics_port).route
        self._listener = self._entrance.make_listener(loop, route, self._metrics)
        self._metrics_port = self._make_metrics_port(endpoints) if config.metrics_port else None
        self._runtime.on_adopted += [self._follow_traces, self._listener.reroute]
        self._drain_s = config.graceful_timeout_s
        self._stopping = asyncio.Event()
        self._status = EXIT_OK
        self._is_interrupted = False
        self._failure: SetupError | None = None
        self._watching: asyncio.Task[None] | None = None  # held: the loop holds its tasks only weakly
        self.has_ended_threads = True

    def _make_reloader(self, reread: Reread, environ: Mapping[str, str]) -> Reloader:
        from fastserve.model.reload import Reloader  # for development alone

        return Reloader(self._loop, self._runtime, self._directory, self._config, reread, environ)

    def _make_metrics_port(self, endpoints: Endpoints) -> MetricsPort:
        from fastserve.metrics_port import MetricsPort

        return MetricsPort(self._loop, self._config, ProbeRouter(endpoints, self._metrics).route, self._metrics)

    def _endpoints(self) -> Endpoints:
        runtime, lifecycle = self._runtime, self._lifecycle
        schemas = Schemas(runtime, lifecycle, self._name)
        waits = "waiting-liveness" in self._config.truss_quirks

        def method(name: str, entry: Entry) -> Finder:
            directory = str(self._directory.path)
            endpoint = MethodEndpoint(
                name, entry, runtime, lifecycle, self._loop, directory, self._config, self._metrics
            )
            runtime.on_adopted.append(endpoint.fit)
            return endpoint.route

        return Endpoints(
            predict=method("predict", runtime.predict),
            openai={name: method(name, entry) for name, entry in runtime.openai.items()},
            websocket=WebSocketEndpoint(
                runtime, lifecycle, self._loop, str(self._directory.path), self._metrics
            ).route,
            liveness=WaitingLiveness(runtime).answer if waits else answer_liveness,
            readiness=Readiness(lifecycle).answer,
            health=Health(lifecycle, runtime).answer,
            metrics=MetricsPage(runtime, lifecycle, self._metrics, str(self._directory.path)).answer,
            schema=schemas.answer_schema,
            openapi=schemas.answer_openapi,
            hot_reload=self._hot_reload(),
        )

    def _hot_reload(self) -> Answer | None:
        if self._reloader is None:
            return None
        from fastserve.endpoints.reload import HotReload

        return HotReload(self._reloader.hot_reload).answer

    async def serve(self) -> int:
        """Listen, load, serve, drain. Returns the exit status; raises SetupError."""
        reloader = self._reloader
        acceptor = await self._listen()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._hear(number, self._on_signal, number)
        if self._entrance.is_reloadable:  # else it ends the process, as it does others
            self._hear(signal.SIGHUP, self._entrance.reload, self._listener)
        self._tick()
        loading = self._loop.create_task(self._load() if reloader is None else reloader.run(self._be_ready))
        try:
            await self._wait_stopping()
            if reloader is not None:
                loading.cancel()  # what is in flight is answered by the version that serves
            await self._drain(acceptor)
        finally:
            loading.cancel()
            await self._stop()
        if self._failure is not None:
            raise self._failure
        return self._status

    def _hear(self, number: int, act: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call `act` at this signal, once it can."""
        loop, context, process = self._loop, self._listener.context, os.getpid()
        loop.add_signal_handler(number, act, *arguments)  # which a handler that the model sets leaves as it is
        handle: Any = signal.getsignal(number)  # uvloop's

        def on_signal(_number: int, frame: object) -> None:
            if os.getpid() != process:  # forked off by user code: what ends us does not end it
                return
            if loop.is_running():
                handle(number, frame)
            else:  # a model has stopped it: it will go on, but uvloop does not see the signal
                with contextlib.suppress(RuntimeError):  # it has ended
                    loop.call_soon_threadsafe(act, *arguments, context=context.copy())
            if number == signal.SIGINT:
                if self._is_interrupted:
                    _end_interrupted()  # here: a method may hold the loop for ever
                self._is_interrupted = True

        signal.signal(number, on_signal)
        if number != signal.SIGINT:  # which is to interrupt what a method waits for, too
            signal.siginterrupt(number, False)

    async def _wait_stopping(self) -> None:
        """Until a signal or a failed load. Nobody but a model that cancels all tasks cancels this one."""
        while not self._stopping.is_set():
            try:
                await self._stopping.wait()
            except asyncio.CancelledError:
                _logger.error("the model cancelled a task of the server's; the server goes on")

    async def _listen(self) -> Acceptor:
        if self._metrics_port is not None:
            self._metrics_port.open()  # first: if it cannot be had, no Unix socket is left behind
        opened = self._entrance.open()
        listener = self._listener
        factory = self._entrance.make_factory(listener, _way_to_connect(listener, self._telemetry))
        acceptor = Acceptor(self._loop, opened, factory, self._config.max_connections, self._metrics)
        listener.acceptor = acceptor
        await acceptor.start()
        for listening in opened:
            _address_logger.info("listening on %s", self._entrance.name(listening))
        if self._metrics_port is not None:
            for address in await self._metrics_port.start():
                _address_logger.info("metrics and probes on %s", address)
        return acceptor

    def _tick(self) -> None:
        self._loop.call_later(TICK_S, self._tick)  # first: whatever happens below, the clock goes on
        self._listener.tick()
        self._metrics.tick()
        if self._metrics_port is not None:
            self._metrics_port.listener.tick()
        self._check_model(time.monotonic())
        self._follow_traces()

    def _follow_traces(self) -> None:
        """Know the traces of requests, once the model has imported what tells it of them."""
        listener = self._listener
        if listener.config.request_ids == "given" and "fastserve.interface.trace_context" in sys.modules:
            listener.config = dataclasses.replace(listener.config, request_ids="traced")
            listener.reroute()

    def _check_model(self, now: float) -> None:
        """Have readiness follow the model's condition; end if that is the only cure."""
        condition = self._runtime.condition
        condition.tick(now)
        self._lifecycle.is_model_good = condition.is_good
        if condition.must_end and not self._stopping.is_set():
            _logger.error("ending, to be started anew with its memory free")
            self._drain_s = min(self._drain_s, OOM_DRAIN_S)
            self._stop_with(EXIT_FAILED)

    async def _load(self) -> None:
        began = time.monotonic()
        try:
            await self._runtime.load()
        except LoadError as error:
            log_load_error(error, str(self._directory.path))
            self._stop_with(EXIT_OK if "exit-zero" in self._config.truss_quirks else EXIT_FAILED)
        except (ModelError, SetupError) as error:
            if "exit-zero" in self._config.truss_quirks:  # what is wrong with the model is a failed load to Truss
                _logger.error("%s", error)
                self._stop_with(EXIT_OK)
            else:
                self._failure = SetupError(str(error))
                self._stop_with(EXIT_FAILED)
        except Exception:
            _logger.exception("loading failed; this is a bug of fastserve")
            self._stop_with(EXIT_FAILED)
        else:
            # What has been loaded lives as long as the process: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            self._be_ready(began)

    def _be_ready(self, began: float) -> None:
        """The model is loaded. began: when that did, monotonic."""
        if self._lifecycle.state is State.STARTING:
            self._lifecycle.move_to(State.READY)
            self._listener.reroute()
            gpus = "".join(f"; {gpu}" for gpu in self._runtime.gpus.at_load)
            _logger.info("ready; the model loaded in %.2f s%s", time.monotonic() - began, gpus)

    def _watch_environment(self) -> None:
        """Of the version that serves from now on."""
        if self._watching is not None:
            self._watching.cancel()
        environment = self._runtime.environment
        self._watching = None if environment is None else self._loop.create_task(environment.run())

    def _on_signal(self, number: int) -> None:
        if self._stopping.is_set():
            if number == signal.SIGINT:
                _end_interrupted()
            return
        name, delay_s = signal.Signals(number).name, self._config.drain_delay_s
        if number == signal.SIGTERM and delay_s and self._lifecycle.state is State.READY:
            self._leave(name, delay_s)
        else:
            self._begin_drain(name)

    def _leave(self, why: str, delay_s: float) -> None:
        """Turn unready, and go on serving until those who send requests have seen it."""
        self._lifecycle.move_to(State.LEAVING)
        self._listener.leave()
        self._loop.call_later(delay_s, self._begin_drain, f"{delay_s:g} s after {why}")
        _logger.info("%s: not ready any more, draining in %g s", why, delay_s)

    def _begin_drain(self, why: str) -> None:
        if not self._stopping.is_set():  # the delay may have been cut short
            self._stop_with(EXIT_OK)
            _logger.info("%s: draining, %d requests in flight", why, self._runtime.in_flight)

    def _stop_with(self, status: int) -> None:
        if not self._stopping.is_set():
            self._status = status
            self._lifecycle.move_to(State.DRAINING)
            self._stopping.set()

    async def _drain(self, acceptor: Acceptor) -> None:
        """No new connections; finish what is in flight, within the time given."""
        await acceptor.drain()
        self._entrance.close()
        self._listener.drain()
        try:
            await asyncio.wait_for(self._wait_idle(), self._drain_s)
        except asyncio.TimeoutError:
            _logger.warning("still in flight after %g s: aborted", self._drain_s)

    async def _wait_idle(self) -> None:
        await self._listener.wait_closed()
        await self._runtime.wait_idle()

    async def _stop(self) -> None:
        self._lifecycle.move_to(State.STOPPED)
        self._listener.abort()
        with contextlib.suppress(asyncio.TimeoutError):  # so that generators learn that nobody reads them
            await asyncio.wait_for(self._listener.wait_closed(), CANCEL_S)
        if self._metrics_port is not None:
            await self._metrics_port.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # the model's, and what user code started and left
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=CANCEL_S)
        has_ended = [self._runtime.stop(), self._reloader is None or self._reloader.stop()]
        self.has_ended_threads = all(has_ended)


def _way_to_connect(listener: Listener, telemetry: Telemetry | None) -> Callable[[], Connection]:
    if telemetry is not None:
        from fastserve.http11.traced import ServerSpans, TracedConnection

        spans = ServerSpans(telemetry.tracer)
        return lambda: TracedConnection(listener, spans)
    if listener.config.access_log:
        from fastserve.http11.access import LoggedConnection

        return lambda: LoggedConnection(listener)
    return lambda: Connection(listener)


def _end_interrupted() -> None:
    try:
        # What the signal has interrupted may hold a lock that is needed to log.
        ending = threading.Timer(CANCEL_S, os._exit, (EXIT_INTERRUPTED,))
        ending.daemon = True
        ending.start()
        _logger.warning("interrupted again: ending at once")
    finally:
        _exit_now(EXIT_INTERRUPTED)


def _exit_now(status: int) -> None:
    try:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
