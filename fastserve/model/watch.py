"""The files that make up a model: which there are, which have changed, whether a path is one of them.

Looks only when asked, by stat alone: portable, and some milliseconds for a thousand files. Used by `reload.py` and
`changeover.py`, with --reload alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fastserve.model.directory import ModelDirectory
from fastserve.model.loader import package_paths

CONFIG_FILE: Final = "config.yaml"

# Directories that hold what others have made: caches, and environments with thousands of files that nobody edits.
_OTHERS: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
_ENVIRONMENT_MARKS: Final = ("pyvenv.cfg", "conda-meta")
# What editors write beside the file they save, and what programs write while they run.
_PASSING: Final = ("~", ".pyc", ".pyo", ".swp", ".tmp", ".log")


class Stamp(NamedTuple):
    """What tells one state of a file from the next. The inode: many editors write a new file and rename it."""

    modified_ns: int
    size: int
    inode: int


Snapshot = Mapping[str, Stamp]
"""Every file by its path."""


class SourceTree:
    """The model directory and its package directories, without data_dir and what is hidden or made by others."""

    def __init__(self, directory: ModelDirectory) -> None:
        """Raises SetupError for a package directory that is not there."""
        self._roots = [str(directory.path), *package_paths(directory)]
        self._data_dir = os.path.normpath(directory.path / directory.config["data_dir"])
        self._config_file = str(directory.path / CONFIG_FILE)
        self._judged: dict[str, bool] = {}  # what `_is_ignored_directory` said, for `holds`

    def scan(self) -> Snapshot:
        """What is there now. Blocks; what cannot be read is left out."""
        found: dict[str, Stamp] = {}
        visited = set[tuple[int, int]]()
        outputs = set(_outputs())
        pending = list(self._roots)
        while pending:
            for entry in _entries(pending.pop()):
                try:
                    state = entry.stat()
                except OSError:  # gone meanwhile, or a link to nowhere
                    continue
                identity = (state.st_dev, state.st_ino)
                if stat.S_ISDIR(state.st_mode):
                    if identity not in visited and not self._is_ignored_directory(entry.name, entry.path):
                        visited.add(identity)  # links may lead in circles
                        pending.append(entry.path)
                elif not _is_ignored_file(entry.name) and identity not in outputs:
                    found[entry.path] = Stamp(state.st_mtime_ns, state.st_size, state.st_ino)
        return found

    def holds(self, path: str) -> bool:
        """Whether a file or directory is in the tree."""
        for root in self._roots:
            if path == root:
                return True
            if path.startswith(root + "/"):
                return not self._is_ignored_below(root, path)
        return False

    def _is_ignored_below(self, root: str, path: str) -> bool:
        place = root
        for name in path[len(root) + 1 :].split("/"):
            place = f"{place}/{name}"
            if place not in self._judged:
                self._judged[place] = self._is_ignored_directory(name, place)
            if self._judged[place]:
                return True
        return False

    def _is_ignored_directory(self, name: str, path: str) -> bool:
        if name.startswith(".") or name in _OTHERS or os.path.normpath(path) == self._data_dir:
            return True
        return any(Path(path, mark).exists() for mark in _ENVIRONMENT_MARKS)

    def changes(self, before: Snapshot, now: Snapshot, *, counts_new: bool = False) -> list[str]:
        """The paths of what has changed, in order.

        A source file counts always. Any other only if it was there before: what has come since cannot have been read
        when the model was loaded, and is as a rule what the model itself writes. counts_new: it counts all the same.
        """

        def counts(path: str) -> bool:
            return counts_new or self._is_source(path) or (path in before and path in now)

        paths = before.keys() | now.keys()
        return sorted(path for path in paths if before.get(path) != now.get(path) and counts(path))

    def merge(self, before: Snapshot, after: Snapshot) -> Snapshot:
        """What a load has seen that began with `before` and ended with `after`.

        A source file that has changed meanwhile is still to be loaded; any other was written by the load itself.
        """
        return {**{path: after[path] for path in after if not self._is_source(path)}, **self.sources(before)}

    def merge_config(self, before: Snapshot, after: Snapshot) -> Snapshot:
        """What a hot reload has seen: `after`, but of config.yaml, which it does not read, what `before` says."""
        config = {path: before[path] for path in before if path == self._config_file}
        return {**{path: after[path] for path in after if path != self._config_file}, **config}

    def sources(self, snapshot: Snapshot) -> Snapshot:
        """Its source files alone."""
        return {path: stamp for path, stamp in snapshot.items() if self._is_source(path)}

    def _is_source(self, path: str) -> bool:
        return path.endswith(".py") or path == self._config_file


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except OSError:  # gone meanwhile, or not ours to read
        return


def _is_ignored_file(name: str) -> bool:
    return name.startswith((".", "#")) or name.endswith(_PASSING)


def _outputs() -> Iterator[tuple[int, int]]:
    """The files this process prints to: each line of the log would be a change of what is read here."""
    for descriptor in (1, 2):
        try:
            state = os.fstat(descriptor)
        except OSError:
            continue
        yield state.st_dev, state.st_ino
