"""What the whole process has for one version of a model, changed for the next one, and back if that fails.

Environment variables, `sys.path`, the working directory, `sys.modules`, registered metrics. Used by `reload.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastserve.model.collectors import Collectors
from fastserve.model.directory import ModelDirectory
from fastserve.model.loader import package_paths
from fastserve.model.modules import Modules, put_back, take_out
from fastserve.model.watch import SourceTree


class Changeover:
    """From one version to the next. All of it blocks, and is for one thread at a time."""

    def __init__(self, directory: ModelDirectory, environ: Mapping[str, str]) -> None:
        """directory: what the process is prepared for now. environ: the variables as they were before that.

        Raises SetupError for a package directory that is not there.
        """
        self._directory = directory
        self._environ = environ
        self._paths = package_paths(directory)
        self._tree = SourceTree(directory)
        self._taken: Modules = {}
        self._before = (directory, self._paths, self._tree)
        self._collectors = Collectors()

    def begin(self, directory: ModelDirectory) -> None:
        """Prepare the process for the version in `directory`. Raises SetupError, and then nothing has changed."""
        paths, tree = package_paths(directory), SourceTree(directory)
        self._before = (self._directory, self._paths, self._tree)
        self._change_process(directory, paths)
        self._tree = tree
        self.begin_modules()

    def begin_modules(self) -> None:
        """Have what is imported from now on be imported anew, the rest of the process as it is."""
        self._taken = take_out(self.holds, self._package)
        self._collectors.begin(self._taken)

    def go_back(self) -> None:
        """The new version has failed: all is as before for the one that goes on."""
        self._collectors.go_back()
        put_back(self.holds, self._package, self._taken)
        directory, paths, self._tree = self._before
        self._change_process(directory, paths)
        self.keep()

    def keep(self) -> None:
        """The new version serves; nothing of the one before is held."""
        self._taken = {}
        self._before = (self._directory, self._paths, self._tree)
        self._collectors.keep()

    def holds(self, path: str) -> bool:
        """Whether a file or directory is part of this version, or the one before."""
        return self._tree.holds(path) or self._before[2].holds(path)

    @property
    def _package(self) -> str:
        """The top-level name of the model's own package."""
        return (*Path(self._directory.config["model_module_dir"]).parts, "")[0]

    def _change_process(self, directory: ModelDirectory, paths: Sequence[str]) -> None:
        variables = directory.config["environment_variables"]
        for name in self._directory.config["environment_variables"]:
            if name in variables:
                continue
            if name in self._environ:
                os.environ[name] = self._environ[name]
            else:
                os.environ.pop(name, None)
        os.environ.update(variables)
        for path in self._paths:
            if path in sys.path:
                sys.path.remove(path)
        sys.path.extend(paths)
        os.chdir(directory.path)
        self._directory, self._paths = directory, list(paths)
