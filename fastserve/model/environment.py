"""The environment a model is deployed in, as Truss's platform says it: a JSON file that may change while it runs.

`setup_environment` is told it before `load`, and each change afterwards. Called by `arguments.py` and `runtime.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, Final

from fastserve.errors import SetupError, text_of
from fastserve.model.contract import Method
from fastserve.model.hooks import Hooks

_logger: Final = logging.getLogger("fastserve")

FILE_NAME: Final = "environment"

# Truss's: a mounted file follows its source only after a minute or so anyway.
POLL_S: Final = 30.0


def read_environment(path: Path) -> Any:
    """What `path`/environment says: JSON, or None without any. Raises SetupError if it cannot be read as that."""
    text = _read(path / FILE_NAME)
    return None if text is None else _parse(path / FILE_NAME, text)


def log_setting_up(environment: Any) -> None:
    """Truss's line, before each call of `setup_environment`."""
    _logger.info("Executing model.setup_environment with environment: %s", environment)


class EnvironmentWatch:
    """Tells a model that has `setup_environment` of each change of its environment.

    What it raises then is logged, and the watch goes on: it is told again when the file has changed again.
    """

    def __init__(self, path: Path, method: Method, hooks: Hooks) -> None:
        """path: the directory with the file."""
        self._file = path / FILE_NAME
        self._method = method
        self._hooks = hooks
        self._modified: int | None = None  # when the text that was last read was written, in ns
        self._told: Any = None  # as by Truss: one who was told nothing need not be told `null`

    def first(self) -> tuple[Any] | None:
        """The environment to tell before `load`; None if there is none: the file is missing or empty.

        Counts as told. Blocks. Raises SetupError if it cannot be read as JSON.
        """
        text = _read(self._file)
        if text is None:
            return None
        self._told = _parse(self._file, text)
        return (self._told,)

    async def run(self) -> None:
        """Look every POLL_S, for ever. Raises only CancelledError."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.poll()

    async def poll(self) -> None:
        """Look at the file once, and tell the model if what it says has changed. Raises only CancelledError."""
        changed, error = await self._hooks.on_thread(self._look)
        if changed is not None:
            (environment,) = changed
            log_setting_up(environment)
            _, error = await self._hooks.call(self._method, environment)
            if error is None:
                self._told = environment
        if error is not None:
            self._hooks.log(f"Exception while setting up environment: {text_of(error)}", error)

    def _look(self) -> tuple[Any] | None:
        """The environment if it is another than what was told. Blocks: a mount may hang."""
        try:
            modified = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if modified == self._modified:
            return None
        self._modified = modified  # first: what cannot be read is told once, not at every look
        text = _read(self._file)
        if text is None:
            return None
        environment = _parse(self._file, text)
        return None if environment == self._told else (environment,)


def _read(file: Path) -> bytes | None:
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SetupError(f"{file}: cannot be read: {error.strerror}") from None
    return text if text.strip() else None


def _parse(file: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # what is not UTF-8 included
        raise SetupError(f"{file}: not JSON: {error}") from None
