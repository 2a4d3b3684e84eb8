"""A model directory: `config.yaml` read, checked and filled with Truss's defaults. Imports and runs nothing.

What the model later sees as `config` is made here. Called by `cli.py`; `loader.py` takes the result.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from fastserve.errors import SetupError
from fastserve.options import did_you_mean

_logger: Final = logging.getLogger("fastserve")

# Truss 0.18.25, `TrussConfig().to_dict(verbose=True)`: models index these keys without asking whether they are there.
DEFAULTS: Final[dict[str, Any]] = {
    "model_name": None,
    "model_metadata": {},
    "description": None,
    "examples_filename": "examples.yaml",
    "data_dir": "data",
    "external_data": None,
    "external_package_dirs": [],
    "python_version": "py313",
    "base_image": None,
    "requirements_file": None,
    "requirements": [],
    "system_packages": [],
    "environment_variables": {},
    "secrets": {},
    "resources": {"cpu": "1", "memory": "2Gi", "accelerator": None, "use_gpu": False},
    "runtime": {
        "predict_concurrency": 1,
        "streaming_read_timeout": 60,
        "enable_tracing_data": False,
        "enable_debug_logs": False,
        "transport": {"kind": "http"},
        "is_websocket_endpoint": False,
        "health_checks": {
            "restart_check_delay_seconds": None,
            "restart_threshold_seconds": None,
            "stop_traffic_threshold_seconds": None,
            "startup_threshold_seconds": None,
        },
        "oidc": {"enabled": None},
        "remote_ssh": {"enabled": False},
        "egress_restrictions": None,
        "truss_server_version_override": None,
        "request_backpressure": {"policy": None},
    },
    "build": {"model_server": "TrussServer", "arguments": {}, "secret_to_path_mapping": {}, "no_cache": False},
    "build_commands": [],
    "docker_server": None,
    "model_cache": [],
    "weights": [],
    "trt_llm": None,
    "training_checkpoints": None,
    "bis_llm": None,
    "input_type": "Any",
    "model_framework": "custom",
    "model_type": "Model",
    "model_module_dir": "model",
    "model_class_filename": "model.py",
    "model_class_name": "Model",
    "bundled_packages_dir": "packages",
    "use_local_src": False,
    "cache_internal": [],
    "live_reload": False,
    "apply_library_patches": True,
    "spec_version": "2.0",
}

# Far more than any config has, far less than what overflows a C stack.
MAX_DEPTH: Final = 100

# The keys read here or in loader.py, and the type each must have; what only Truss's platform reads is not checked.
_TYPES: Final[dict[str, tuple[type, str]]] = {
    "model_metadata": (dict, "a mapping"),
    "environment_variables": (dict, "a mapping of names to values"),
    "secrets": (dict, "a mapping of names to values"),
    "runtime": (dict, "a mapping"),
    "external_package_dirs": (list, "a list of directories"),
    "data_dir": (str, "a directory"),
    "bundled_packages_dir": (str, "a directory"),
    "model_module_dir": (str, "a directory"),
    "model_class_filename": (str, "a file name"),
    "model_class_name": (str, "a class name"),
}

# Their values are never shown: a list of secrets is a mistake soon made.
_UNSHOWN: Final = frozenset({"secrets", "environment_variables"})


@dataclasses.dataclass(frozen=True)
class ModelDirectory:
    """A model directory whose `config.yaml` is good.

    path: absolute. config: all of it, defaults filled in; given to the model as it is.
    runtime: only what `config.yaml` itself says under `runtime`.
    """

    path: Path
    config: dict[str, Any]
    runtime: Mapping[str, object]
    lines: Mapping[tuple[str, ...], int] = dataclasses.field(default_factory=dict)

    def where(self, *keys: str) -> str:
        """'config.yaml:3: runtime.predict_concurrency', for messages."""
        line = self.lines.get(keys)
        return f"{self.path / 'config.yaml'}{f':{line}' if line else ''}: {'.'.join(keys)}"


def read_directory(path: Path) -> ModelDirectory:
    """Read `path`/config.yaml. An empty file is valid; unknown keys are kept, as by Truss.

    Raises SetupError, with file and line, if there is none, it is not YAML, or a key has the wrong type.
    """
    try:
        is_directory = path.is_dir()
        what = "is not a directory" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:
        raise SetupError(f"the model directory cannot be read: {error}") from None
    if not is_directory:
        raise SetupError(f"{path}: {what}; give a model directory, one with config.yaml and model/model.py")
    path = path.resolve()
    file = path / "config.yaml"
    if not file.is_file():
        near = path / "config.yml"
        hint = (
            f" (did you mean {near.name}? rename it to {file.name})" if near.is_file() else "; an empty one will do"
        )
        raise SetupError(f"{path}: no config.yaml{hint}")
    said, lines = _read_yaml(file)
    directory = ModelDirectory(path, _fill_defaults(said), said.get("runtime") or {}, lines)
    _check(directory, said)
    return directory


def _read_yaml(file: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The mapping in `file`, and the line of each key of its first three levels."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{file}: {error}") from None
    _check_depth(file, text)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        said = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SetupError(f"{file}{at}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise SetupError(f"{file}: {error}") from None
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # what PyYAML lets out for `!!int ''` and such
        raise SetupError(f"{file}: a value that is not of its type: {error}") from None
    finally:
        loader.dispose()
    if said is None:
        return {}, {}
    if not isinstance(said, dict):
        raise SetupError(f"{file}:1: takes a mapping of keys to values, not {type(said).__name__}")
    return said, _lines_of(node, file)


def _check_depth(file: Path, text: str) -> None:
    """Refuse nesting that would end the process: PyYAML composes by recursion in C."""
    depth = 0
    with contextlib.suppress(yaml.YAMLError):  # told by the one who reads it
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise SetupError(f"{file}:{line}: nested more than {MAX_DEPTH} deep")


def _lines_of(node: Any, file: Path) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}

    def add(outer: tuple[str, ...], mapping: Any) -> None:
        for key, value in mapping.value:
            path, line = (*outer, str(key.value)), key.start_mark.line + 1
            if path in lines:
                _logger.warning("%s:%d: %s stands there twice; the last one counts", file, line, ".".join(path))
            lines[path] = line
            if len(outer) < 2 and isinstance(value, yaml.MappingNode):
                add(path, value)

    add((), node)
    return lines


def _fill_defaults(said: Mapping[str, Any]) -> dict[str, Any]:
    return _merge(copy.deepcopy(DEFAULTS), said)


def _merge(known: dict[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """`known`, with what is said put in; at every depth. Nothing behind a key (`secrets:`) leaves its default."""
    for key, value in said.items():
        default = known.get(key)
        if isinstance(default, dict) and isinstance(value, dict):
            known[key] = _merge(default, value)
        elif value is not None or not isinstance(default, (dict, list)):
            known[key] = value
    return known


def _check(directory: ModelDirectory, said: Mapping[str, Any]) -> None:
    for key in said:
        if key not in DEFAULTS and (hint := did_you_mean(str(key), DEFAULTS)):
            _logger.warning("%s: not a key of Truss's%s; kept as it is", directory.where(str(key)), hint)
    for key, (kind, takes) in _TYPES.items():
        value = directory.config[key]
        if not isinstance(value, kind):
            shown = f"a {type(value).__name__}" if key in _UNSHOWN else repr(value)
            raise SetupError(f"{directory.where(key)} takes {takes}, not {shown}")
    config, runtime = directory.config, directory.config["runtime"]
    if runtime.get("num_workers", 1) != 1:
        raise SetupError(
            f"{directory.where('runtime', 'num_workers')} takes only 1; "
            "set runtime.predict_concurrency for predicts that may run at once"
        )
    for name, value in config["secrets"].items():
        if not isinstance(name, str) or not isinstance(value, (str, type(None))):  # the value itself is never shown
            where = directory.where("secrets", str(name))
            raise SetupError(f"{where} takes a text, in quotes if it looks like something else, or null")
    _settle_transport(runtime)
    config["environment_variables"] = {
        str(name): _as_variable(directory, str(name), value)
        for name, value in config["environment_variables"].items()
    }


def _settle_transport(runtime: dict[str, Any]) -> None:
    """The old and the new word for a WebSocket model say the same, as in Truss's own defaults."""
    if runtime["is_websocket_endpoint"] is True:
        runtime["transport"] = {**runtime["transport"], "kind": "websocket"}
    if isinstance(runtime["transport"], dict) and runtime["transport"].get("kind") == "websocket":
        runtime["is_websocket_endpoint"] = True
        runtime["transport"] = {"ping_interval_seconds": None, "ping_timeout_seconds": None, **runtime["transport"]}


def _as_variable(directory: ModelDirectory, name: str, value: object) -> str:
    """Truss's spelling: true and false in lower case, null as None. Raises SetupError for what none can be."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not name or "=" in name or "\0" in name + text:
        where = directory.where("environment_variables", name)
        raise SetupError(f"{where!r}: not a name and value that an environment variable can have")
    return text
