"""What loading a model changes in this process, put back."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


@contextlib.contextmanager
def kept_process(directory: Path) -> Iterator[None]:
    """Working directory, variables, import paths; modules from below `directory` are gone afterwards."""
    cwd, path, hooks, environ = Path.cwd(), sys.path[:], sys.path_hooks[:], dict(os.environ)
    try:
        yield
    finally:
        os.chdir(cwd)
        sys.path[:], sys.path_hooks[:] = path, hooks
        os.environ.clear()
        os.environ.update(environ)
        for name in [name for name, module in list(sys.modules.items()) if _is_below(module, directory)]:
            del sys.modules[name]
        for place in [place for place in sys.path_importer_cache if place.startswith(str(directory))]:
            del sys.path_importer_cache[place]
        importlib.invalidate_caches()


def _is_below(module: ModuleType, directory: Path) -> bool:
    inside = getattr(module, "__dict__", {})
    places = [inside.get("__file__")]
    with contextlib.suppress(Exception):  # a namespace package without its parent, or what a test has made up
        places += list(inside.get("__path__") or [])
    return any(place is not None and str(place).startswith(str(directory)) for place in places)
