"""What a model's `__init__` may ask for: config, data_dir, secrets, environment, lazy_data_resolver.

Truss's objects, made of what its platform mounts and sets; where that is, `config.py` says. Called by `loader.py`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fastserve.config import Config
from fastserve.errors import ModelDefinitionError, SetupError
from fastserve.model.directory import ModelDirectory
from fastserve.model.environment import read_environment

SECRET_PREFIX: Final = "TRUSS_SECRET_"  # Truss's name


class SecretNotFound(Exception):  # noqa: N818 - Truss's name
    """A secret that config.yaml does not name, or that has no value anywhere. Not a KeyError, as in Truss."""


class Secrets(Mapping[str, str]):
    """Secrets, looked up anew each time: file over environment over config.yaml.

    Raises SecretNotFound where another mapping would raise KeyError or return a default; cannot be iterated.
    """

    def __init__(self, named: Mapping[str, str | None], path: Path) -> None:
        """named: `secrets` of config.yaml. path: the directory with a file for each."""
        self._named = named
        self._path = path

    def __getitem__(self, name: str) -> str:
        if name not in self._named:
            raise SecretNotFound(f"Secret {name!r} is not in the config: name it under `secrets` in config.yaml.")
        value = self._named[name]
        value = os.environ.get(SECRET_PREFIX + name, value)
        file = self._path / name
        if file.is_file():
            value = file.read_text()
        if not value:
            raise SecretNotFound(
                f"Secret {name!r} has no value: looked in {file}, the environment variable {SECRET_PREFIX}{name} "
                "and config.yaml."
            )
        return value

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("Secrets are meant for lookup and can't be iterated on")

    def __len__(self) -> int:
        return len(self._named)


class LazyDataResolver:
    """Truss's downloader of model weights, where there is nothing to download."""

    def block_until_download_complete(self, log_stats: bool = True, issue_collect: bool = True) -> str:
        """The directory downloaded to: "" as without a manifest."""
        return ""

    def raise_if_not_collected(self) -> None:
        """Nothing is left to collect."""


def make_arguments(directory: ModelDirectory, model_class: type, config: Config) -> dict[str, Any]:
    """The keyword arguments for `model_class`: those of the five that it names, or all if it takes `**kwargs`.

    Raises ModelDefinitionError if it requires any other, SetupError for an environment that is not JSON.
    """
    offered: dict[str, Callable[[], Any]] = {
        "config": lambda: directory.config,
        "data_dir": lambda: _make_data_dir(directory),
        "secrets": lambda: Secrets(directory.config["secrets"], Path(config.secrets_path)),
        "lazy_data_resolver": LazyDataResolver,
        "environment": lambda: read_environment(Path(config.dynamic_config_path)),
    }
    asked = _parameters(model_class)
    for parameter in asked:
        is_starred = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name not in offered and parameter.default is parameter.empty and not is_starred:
            raise ModelDefinitionError(
                f"`{model_class.__name__}.__init__` requires `{parameter.name}`, which is not known here; "
                f"it may take {', '.join(offered)}, or give `{parameter.name}` a default"
            )
    if any(p.kind is p.VAR_KEYWORD for p in asked):
        return {name: make() for name, make in offered.items()}
    return {p.name: offered[p.name]() for p in asked if p.name in offered}


def _parameters(model_class: type) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model_class).parameters.values())
    except ValueError:  # a class without an __init__ that Python can read
        return []


def _make_data_dir(directory: ModelDirectory) -> Path:
    """`data_dir` as Truss gives it: relative to the working directory, which is the model's; made if missing."""
    data_dir = Path(directory.config["data_dir"])
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{directory.where('data_dir')}: cannot be made: {error}") from None
    return data_dir
