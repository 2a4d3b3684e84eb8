"""Calls what no predict request asks for: `is_healthy`, `setup_environment`, collectors of metrics.

On threads of its own, so that one that hangs takes none from the requests, nor they from it; what user code raises
comes back as a value. Owned by `runtime.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final

from fastserve.errors import ModelDefinitionError
from fastserve.logs import trimmed
from fastserve.model.contract import Contract, Kind, Method, Takes
from fastserve.model.threads import Completions, Workers

_logger: Final = logging.getLogger("fastserve")

Outcome = tuple[Any, BaseException | None]
"""(what was returned, None) or (None, what was raised)."""
Then = Callable[[Any], Any] | None


def check_hooks(contract: Contract) -> None:
    """Refuse hooks that would do nothing when they are called. Raises ModelDefinitionError."""
    for method in (contract.is_healthy, contract.setup_environment):
        if method is not None and method.kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise ModelDefinitionError(
                f"`{method.name}` is a generator, which does nothing when it is called: leave out the `yield`"
            )
    set_up = contract.setup_environment
    if set_up is not None and set_up.takes not in (Takes.INPUTS, Takes.NOTHING):
        raise ModelDefinitionError(
            "`setup_environment` must have only one argument besides `self`: the environment; "
            "write `def setup_environment(self, environment)`"
        )


class Hooks:
    """Threads for calls of user code beside the requests, started when the first is made.

    directory: the model's; logged tracebacks begin at its first frame.
    """

    def __init__(
        self, name: str, count: int, loop: asyncio.AbstractEventLoop, completions: Completions, directory: str
    ) -> None:
        """name, count: of the threads."""
        self._workers = Workers(name, loop)
        self._count = count
        self._completions = completions
        self._directory = directory
        self._tasks: set[asyncio.Task[Outcome]] = set()  # the loop itself holds its tasks only weakly

    async def call(self, method: Method, payload: Any, then: Then = None) -> Outcome:
        """Call a method of the model where its kind belongs, and `then` on what it returned, in the same place.

        Raises only CancelledError: what has begun runs to its end, what has not is dropped.
        """
        if method.kind is Kind.COROUTINE:
            return await self._on_loop(lambda: method.call(payload), then)
        outcome = await self.on_thread(lambda: _unless_awaitable(method.call(payload), then))
        if inspect.isawaitable(outcome[0]):  # a plain function around a coroutine
            awaitable = outcome[0]
            return await self._on_loop(lambda: awaitable, then)
        return outcome

    async def on_thread(self, function: Callable[[], Any]) -> Outcome:
        """Run `function` on a thread, with the context of whoever asks. Raises only CancelledError."""
        self._workers.start(self._count)
        context = copy_context()
        is_wanted = True

        def run() -> Outcome:
            try:
                return (context.run(function) if is_wanted else None), None
            except BaseException as error:  # noqa: BLE001 - user code may raise anything, StopIteration too
                return None, error

        try:
            outcome: Outcome = await self._workers.call(run, self._completions)
        except asyncio.CancelledError:
            is_wanted = False
            raise
        return outcome

    async def _on_loop(self, call: Callable[[], Awaitable[Any]], then: Then) -> Outcome:
        task = asyncio.get_running_loop().create_task(_await(call, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        return task.result()

    def log(self, message: str, error: BaseException) -> None:
        """Log what user code raised, its traceback trimmed to the user's frames."""
        _logger.error("%s", message, exc_info=trimmed(error, self._directory))

    def stop(self) -> bool:
        """End the threads. Returns False if one is stuck in user code and cannot be ended."""
        return self._workers.stop()


async def _await(call: Callable[[], Awaitable[Any]], then: Then) -> Outcome:
    try:
        value = await call()
        return (value if then is None else then(value)), None
    except BaseException as error:  # noqa: BLE001 - a task that raises SystemExit would end the loop
        return None, error


def _unless_awaitable(value: Any, then: Then) -> Any:
    return value if then is None or inspect.isawaitable(value) else then(value)
