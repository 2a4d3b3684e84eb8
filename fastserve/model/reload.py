"""Keeps a running model in step with its files: loads it anew when they change, while the one before goes on serving.

What has changed, `watch.py` sees; `changeover.py` clears the way for the new version. Made by `server.py`, with
--reload alone; `endpoints/reload.py` asks for a hot reload.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from fastserve.config import OPTIONS, Config
from fastserve.errors import LoadError, ModelError, SetupError
from fastserve.model.changeover import Changeover
from fastserve.model.directory import ModelDirectory
from fastserve.model.hooks import Hooks
from fastserve.model.loader import import_class
from fastserve.model.modules import import_from_source
from fastserve.model.runtime import Runtime
from fastserve.model.threads import Completions
from fastserve.model.version import Version, guarded, log_load_error
from fastserve.model.watch import Snapshot, SourceTree

_logger: Final = logging.getLogger("fastserve")

Reread = Callable[[], tuple[ModelDirectory, Config]]
"""Reads config.yaml anew, with the command line and environment of the start. Raises SetupError."""

# How often files are looked at. A change counts when two looks have found the same: an editor that saves all its
# files, and a git checkout, write them within milliseconds. So a reload begins 0.25 to 0.5 s after the last of them.
LOOK_S: Final = 0.25
# One for the looks; one for what may take long: the import of a hot reload, the end of old threads.
THREADS: Final = 2
# Most changed files that a log line names.
MOST_NAMED: Final = 5


class Reloader:
    """Loads one model again and again. All of it on the loop, but for what blocks."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: Runtime,
        directory: ModelDirectory,
        config: Config,
        reread: Reread,
        environ: Mapping[str, str],
    ) -> None:
        """directory, config: as at the start; the process is prepared for them. environ: as it was before that."""
        self._loop = loop
        self._runtime = runtime
        self._directory = directory  # of the version that serves, or the first
        self._config = config
        self._config_read = config  # what config.yaml said last; the server goes on with the one it has
        self._reread = reread
        self._threads = Hooks("fastserve-reload", THREADS, loop, Completions(loop), str(directory.path))
        self._tree = SourceTree(directory)  # of the newest version that was tried
        self._seen: Snapshot = {}  # the files as they were then
        self._has_failed = False
        self._changeover = Changeover(directory, environ)
        self._lock = asyncio.Lock()  # one reload at a time, full or hot
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks only weakly
        import_from_source(self._changeover.holds)

    async def run(self, on_ready: Callable[[float], None]) -> None:
        """Load the model, then anew after each change of its files, for ever. Raises only CancelledError.

        on_ready: called once a first version serves, with the time (monotonic) at which its load began.
        """
        changed: Sequence[str] = ()
        while True:
            async with self._lock:
                await self._load(changed, on_ready)
            changed = await self._wait_for_change()

    async def hot_reload(self) -> None:
        """Have the living model be of its class as it is on disk now, without `__init__` and `load`.

        What has changed until now is then not loaded anew, unless it is config.yaml. Waits for a reload that is under
        way. Raises SetupError or ModelError, and then all is as before.
        """
        self._check_loaded()
        await asyncio.shield(self._start(self._hot_reload()))  # whoever asked may leave

    def stop(self) -> bool:
        """End the threads. Returns False if one is stuck in user code and cannot be ended."""
        return self._threads.stop()

    # --- what changes ---

    async def _wait_for_change(self) -> list[str]:
        """What has changed since the latest reload, once no more is changing and none is under way."""
        latest = self._seen
        finished = self._finished()
        while True:
            await asyncio.sleep(LOOK_S)
            now = await self._look()
            if finished != (finished := self._finished()) or self._runtime.in_flight:
                # The model has been at work: what it may have written, over an old output say, is no change.
                self._seen = self._tree.merge(self._seen, now)
            changed = self._tree.changes(self._seen, now, counts_new=self._has_failed)
            if changed and now == latest and not self._lock.locked():
                return changed
            latest = now

    def _finished(self) -> int:
        version = self._runtime.version
        return 0 if version is None else version.in_flight.finished

    async def _tell_of_change(self, seen: Snapshot) -> None:
        """Say so, once, if source files change while they are being loaded: that load may take for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._tree.changes(self._tree.sources(seen), self._tree.sources(await self._look())):
                _logger.info("more has changed; the model is loaded once more when this load is over")
                return

    async def _look(self) -> Snapshot:
        found: Snapshot = await self._on_thread(self._tree.scan)
        return found

    # --- a full reload ---

    async def _load(self, changed: Sequence[str], on_ready: Callable[[float], None]) -> None:
        """Load the model once; it serves if that succeeds. Raises only CancelledError."""
        began = time.monotonic()
        before = self._runtime.version
        if changed:
            _logger.info("reloading: %s", self._names(changed))
        try:
            self._seen = await self._look()
            await self._replace(is_first=not changed)
        except Exception as error:  # noqa: BLE001 - the next change may mend it
            self._has_failed = True
            self._log_failure(error)
        else:
            self._has_failed = False
            if before is None:
                on_ready(began)
            else:
                self._start(self._retire(before))
                before = None  # it is to be gone when its memory is looked for
                _logger.info("reloaded in %.2f s", time.monotonic() - began)
        self._seen = self._tree.merge(self._seen, await self._look())

    async def _replace(self, *, is_first: bool) -> None:
        """Put a new version in the place of the one that serves. Raises SetupError, ModelError."""
        directory = self._directory if is_first else await self._read_directory()
        await self._on_thread(lambda: self._changeover.begin(directory))
        telling = self._start(self._tell_of_change(self._seen))
        try:
            version = await self._runtime.prepare(directory)
        except Exception:
            await self._on_thread(self._changeover.go_back)
            raise
        finally:
            telling.cancel()
        self._changeover.keep()
        self._directory = directory
        version.in_flight.keep_score()
        self._runtime.adopt(version)

    async def _read_directory(self) -> ModelDirectory:
        """The directory as it is now; the server's own options stay. What is watched from now on is its tree."""
        directory: ModelDirectory
        directory, config = await self._on_thread(self._reread)
        directory.config["runtime"]["predict_concurrency"] = self._config.predict_concurrency
        if flags := _differing(config, self._config_read):
            _logger.warning("config.yaml: restart the server for what has changed of %s", ", ".join(flags))
        self._config_read = config
        self._tree = await self._on_thread(lambda: SourceTree(directory))
        now = await self._look()
        self._seen = {path: self._seen.get(path, stamp) for path, stamp in now.items()}
        return directory

    async def _retire(self, version: Version) -> None:
        """Let a version that was replaced finish what it has begun; then nothing of it is left."""
        await version.in_flight.wait_idle()
        if await self._on_thread(version.stop):
            self._runtime.forget(version)
        del version
        await self._on_thread(gc.collect)  # its memory, a GPU's say, is wanted now

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, LoadError):
            log_load_error(error, str(self._directory.path))
        elif isinstance(error, (ModelError, SetupError)):
            _logger.error("%s", error)
        else:
            _logger.error("reloading failed; this is a bug of fastserve", exc_info=error)
        if self._runtime.version is None:
            _logger.warning("no model is loaded; waiting for a change of its files")
        else:
            _logger.warning("the model that was loaded before goes on; waiting for the next change")

    def _names(self, changed: Sequence[str]) -> str:
        names = [os.path.relpath(path, self._directory.path) for path in changed[:MOST_NAMED]]
        more = len(changed) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    # --- a hot reload ---

    def _check_loaded(self) -> Version:
        if self._runtime.version is None:
            raise LoadError("no model is loaded yet")
        return self._runtime.version

    async def _hot_reload(self) -> None:
        async with self._lock:
            version = self._check_loaded()
            now = await self._look()
            try:
                await self._on_thread(lambda: self._take_class(version))
            except Exception as error:
                self._log_failure(error)
                raise
            self._runtime.adopt(version)
            self._seen = self._tree.merge_config(self._seen, now)
            self._has_failed = False
            _logger.info("Hot reload complete.")

    def _take_class(self, version: Version) -> None:
        """On a thread."""
        self._changeover.begin_modules()
        try:
            guarded(lambda: version.take_class(import_class(self._directory, self._config)))
        except BaseException:
            self._changeover.go_back()
            raise
        self._changeover.keep()

    # --- threads and tasks ---

    async def _on_thread(self, function: Callable[[], Any]) -> Any:
        value, error = await self._threads.on_thread(function)
        if error is not None:
            raise error
        return value

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever has asked for it knows, or has gone


def _differing(one: Config, other: Config) -> list[str]:
    """The flags of the options that are not the same."""
    names = [field.name for field in dataclasses.fields(Config)]
    return [OPTIONS[name].flag for name in names if getattr(one, name) != getattr(other, name)]
