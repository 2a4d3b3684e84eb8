"""The modules that a model has brought into this process: taken out to be imported anew, put back if that fails.

And imported from their source each time. Which files are the model's, the caller says. Used by `reload.py`, and by
`loader.py` in --reload mode.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import ModuleType
from typing import Any, Final, NoReturn

_logger: Final = logging.getLogger("fastserve")

Holds = Callable[[str], bool]
"""Whether a path is one of the model's."""
Modules = dict[str, ModuleType]


class SourceLoader(SourceFileLoader):
    """Compiles a file whenever it is imported.

    Bytecode on disk is told from its source by second and size alone, which two quick edits may share.
    """

    def path_stats(self, path: Any) -> NoReturn:
        """The way to say that there is no bytecode, and that none is to be written (importlib's SourceLoader)."""
        raise OSError("bytecode is not used")


def import_from_source(holds: Holds) -> None:
    """From now on, have modules in what `holds` be imported by SourceLoader."""
    find_in = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (SourceLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def find_in_model(path: str) -> Any:
        if not holds(path):
            raise ImportError("not of the model")
        return find_in(path)

    sys.path_hooks.insert(0, find_in_model)


def take_out(holds: Holds, package: str) -> Modules:
    """Take the model's modules out of `sys.modules`, for `put_back`.

    package: the top-level name of the model's own. Another package with compiled parts stays as it is: those cannot
    be loaded twice (numpy, for one, refuses).
    """
    held = _held(holds)
    compiled = {name for name, module in held.items() if _file_of(module).endswith(tuple(EXTENSION_SUFFIXES))}
    staying = {_top(name) for name in compiled} - {package}
    for top in sorted(staying):
        _logger.warning("%s has compiled parts: it is not loaded anew; restart the server if it has changed", top)
    taken = {name: m for name, m in held.items() if name not in compiled and _top(name) not in staying}
    for name in taken:
        sys.modules.pop(name, None)
    _forget_finders(holds)
    return taken


def put_back(holds: Holds, package: str, taken: Modules) -> None:
    """Have `sys.modules` as it was before `take_out`: what the model imports late must be of the same version."""
    take_out(holds, package)
    sys.modules.update(taken)


def _held(holds: Holds) -> Modules:
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name != "__main__" and _top(name) != "fastserve" and any(holds(place) for place in _places(module))
    }


def _places(module: ModuleType) -> Iterator[str]:
    """The file of a module, and the directories of a package; a namespace package has only these."""
    if file := _file_of(module):
        yield file
    with contextlib.suppress(Exception):  # a namespace's path looks for its parent; others are not what they seem
        yield from [str(place) for place in getattr(module, "__dict__", {}).get("__path__", ())]


def _file_of(module: ModuleType) -> str:
    """ "" without one. Not by getattr: a module may import others to answer that."""
    return str(getattr(module, "__dict__", {}).get("__file__") or "")


def _top(name: str) -> str:
    return name.partition(".")[0]


def _forget_finders(holds: Holds) -> None:
    """Have directories be listed anew, whatever the resolution of their times."""
    for path in [path for path in list(sys.path_importer_cache) if holds(path)]:
        sys.path_importer_cache.pop(path, None)
    importlib.invalidate_caches()
