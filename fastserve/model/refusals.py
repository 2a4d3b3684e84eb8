"""What `config.yaml` may ask of Truss's platform and this server does not do: refused at start, or told.

Each by its key, with file and line, and what to do instead. Called by `cli.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastserve.config import Config
from fastserve.errors import SetupError
from fastserve.model.directory import ModelDirectory
from fastserve.options import PREFIX, did_you_mean

_logger: Final = logging.getLogger("fastserve")

# Below `manifest_root`. Truss's lists of weights to download; its lazy_data_resolver would wait for them.
MANIFESTS: Final = ("bptr/bptr-manifest", "bptr/bptr-manifest.json", "static-bptr/static-bptr-manifest.json")

TRANSPORTS: Final = ("http", "websocket")
PINGS: Final = ("ping_interval_seconds", "ping_timeout_seconds")

_ENGINES: Final = ("trt_llm", "bis_llm")
_DOWNLOADS: Final = ("external_data", "model_cache", "weights")


def check_supported(directory: ModelDirectory, config: Config) -> None:
    """Raise SetupError for what would fail later, or be wrong in silence."""
    if directory.config["docker_server"] is not None:
        raise SetupError(
            f"{directory.where('docker_server')}: a server image of its own cannot be run here; "
            "give a directory with a Model class and leave docker_server out"
        )
    _check_variables(directory)
    _check_engines(directory)
    _check_transport(directory)
    _check_manifest(Path(config.manifest_root))


def warn_of_ignored(directory: ModelDirectory) -> None:
    """Log what a model may do without, if it knows."""
    for key in _ENGINES:
        if directory.config[key] is not None:
            _logger.warning("%s: Truss's engine is not part of this server; Model alone is run", directory.where(key))
    for key in _DOWNLOADS:
        if directory.config[key]:
            _logger.warning(
                "%s: nothing is downloaded here; put the files where the model looks for them", directory.where(key)
            )


def _check_variables(directory: ModelDirectory) -> None:
    """They are set for the model, when the server has its options: API keys there would leave it open."""
    for name in directory.config["environment_variables"]:
        if name.startswith(PREFIX):
            raise SetupError(
                f"{directory.where('environment_variables', name)}: these variables are the model's; "
                "set it on the command line or in the server's own environment"
            )


def _check_engines(directory: ModelDirectory) -> None:
    config = directory.config
    file = directory.path / config["model_module_dir"] / config["model_class_filename"]
    for key in _ENGINES:
        if config[key] is not None and not file.is_file():
            raise SetupError(
                f"{directory.where(key)}: Truss's engine is not part of this server; "
                f"write {file} with a class {config['model_class_name']} that runs one, and leave {key} out"
            )


def _check_transport(directory: ModelDirectory) -> None:
    where = directory.where("runtime", "transport")
    transport = directory.config["runtime"]["transport"]
    if not isinstance(transport, Mapping):
        raise SetupError(f"{where} takes a mapping such as {{kind: http}}, not {transport!r}")
    kind = transport.get("kind", "http")
    if kind not in TRANSPORTS:
        where = directory.where("runtime", "transport", "kind")
        if kind == "grpc":
            raise SetupError(f"{where}: grpc is not spoken here; take http or websocket")
        hint = did_you_mean(str(kind), TRANSPORTS)
        raise SetupError(f"{where} takes one of {', '.join(TRANSPORTS)}{hint}, not {kind!r}")
    for name in PINGS:
        if not _is_time(transport.get(name)):
            where = directory.where("runtime", "transport", name)
            raise SetupError(f"{where} takes a number of seconds from 0 on, or null, not {transport[name]!r}")


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and 0 <= value < float("inf"))


def _check_manifest(root: Path) -> None:
    for name in MANIFESTS:
        try:
            is_there = (root / name).exists()
        except OSError:  # not ours to read: nothing is mounted there for this process
            continue
        if is_there:
            raise SetupError(
                f"{root / name}: the weights that this manifest lists cannot be downloaded here, and "
                "lazy_data_resolver would wait for them; put them where the model looks for them and take it away"
            )
