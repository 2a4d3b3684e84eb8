"""At start: config.yaml's paths and variables put in place, model.py imported, `Model(...)` made, `load()` called.

Runs on the thread that later runs `predict`. Called by `runtime.py`, which retries `load` and awaits an async one.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable
from importlib.machinery import SOURCE_SUFFIXES, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from fastserve.config import Config, did_you_mean
from fastserve.errors import ModelDefinitionError, SetupError
from fastserve.model.arguments import make_arguments
from fastserve.model.directory import ModelDirectory

_logger: Final = logging.getLogger("fastserve")


def prepare_process(directory: ModelDirectory) -> None:
    """Working directory, environment variables and `sys.path` as Truss's container has them.

    For the whole process, so before anything of the model is imported. Raises SetupError for a package directory that
    is not there.
    """
    os.environ.update(directory.config["environment_variables"])  # before the import, which may read them
    os.chdir(directory.path)
    sys.path.insert(0, str(directory.path))
    sys.path.extend(package_paths(directory))


def package_paths(directory: ModelDirectory) -> list[str]:
    """The directories, besides its own, that a model imports from. Raises SetupError for one that is not there."""
    config = directory.config
    bundled = directory.path / config["bundled_packages_dir"]
    found = [str(bundled)] if bundled.is_dir() else []
    for name in config["external_package_dirs"]:
        try:
            package_dir = (directory.path / str(name)).resolve()
            is_there = package_dir.is_dir()
        except (OSError, ValueError) as error:
            raise SetupError(f"{directory.where('external_package_dirs')}: {error}") from None
        if not is_there:
            raise SetupError(f"{directory.where('external_package_dirs')}: {package_dir} is not a directory")
        found.append(str(package_dir))
    return found


def make_model(directory: ModelDirectory, config: Config) -> Any:
    """Import the model's module and make an object of its class.

    Raises SetupError if file or class are missing, else whatever the user's code raises.
    """
    model_class = import_class(directory, config)
    return model_class(**make_arguments(directory, model_class, config))


def import_class(directory: ModelDirectory, config: Config) -> type:
    """Import the model's module, unless it has been, and find its class. Raises as `make_model`."""
    return _find_class(directory, _import_module(directory, from_source=config.reload))


def find_load(model: Any) -> Callable[[], Any] | None:
    """The model's `load`, if it has one. Raises ModelDefinitionError for one that would do nothing when called."""
    load: Callable[[], Any] | None = getattr(model, "load", None)
    if inspect.isgeneratorfunction(load) or inspect.isasyncgenfunction(load):
        raise ModelDefinitionError(
            "`load` is a generator, which does nothing when it is called: leave out the `yield`"
        )
    return load if callable(load) else None


def is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def _import_module(directory: ModelDirectory, *, from_source: bool) -> ModuleType:
    """model/model.py as `model.model`, a real submodule: it can be pickled and can import relatively.

    (Truss imports it under its bare name and outside `sys.modules`, which breaks pickling and dataclasses.)
    """
    config = directory.config
    folder = Path(config["model_module_dir"])
    file = directory.path / folder / config["model_class_filename"]
    if not file.is_file():
        raise SetupError(f"{file}: no such file; {_where_to_write(directory, file)}")
    _logger.info("Loading truss model from file.")
    package = _find_package(directory.path / folder, folder) if file.parent.resolve() != directory.path else None
    name = f"{package.__name__}.{file.stem}" if package else file.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(file):
        return sys.modules[name]  # the package's own __init__.py has imported it
    loader = _source_loader(name, file) if from_source else None
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise SetupError(f"{file}: not a Python file; {_where_to_write(directory, file)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if package:
        setattr(package, file.stem, module)  # as the import statement does
    return module


def _source_loader(name: str, file: Path) -> SourceFileLoader | None:
    from fastserve.model.modules import SourceLoader  # in --reload mode alone

    return SourceLoader(name, str(file)) if file.suffix in SOURCE_SUFFIXES else None


def _where_to_write(directory: ModelDirectory, file: Path) -> str:
    near = did_you_mean(file.name, [f.name for f in file.parent.glob("*.py")] if file.parent.is_dir() else [])
    return f"write a class {directory.config['model_class_name']} there, or set model_class_filename{near}"


def _find_package(path: Path, folder: Path) -> ModuleType:
    """The package that the directory of the model's module is, other than the root of the model directory.

    Under its own path where that is a name and free, so that `from model.other import x` finds the same package.
    """
    if all(part.isidentifier() for part in folder.parts):
        name = ".".join(folder.parts)
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise  # from the package's own __init__.py
        else:
            if path.resolve() in [Path(p).resolve() for p in getattr(package, "__path__", [])]:
                return package
    standing_in = ModuleType("fastserve_" + re.sub(r"\W", "_", path.name))
    standing_in.__path__ = [str(path)]
    sys.modules[standing_in.__name__] = standing_in
    return standing_in


def _find_class(directory: ModelDirectory, module: ModuleType) -> type:
    name = directory.config["model_class_name"]
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        hint = did_you_mean(name, classes) or (f" (it has {', '.join(classes)})" if classes else "")
        raise SetupError(f"{module.__file__}: no class {name}{hint}; set model_class_name, or write `class {name}:`")
    return found
