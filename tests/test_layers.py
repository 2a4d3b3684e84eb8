"""The imports of fastserve, read from its source: they only go down, rooms keep apart, nothing goes in circles."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import fastserve

ROOT: Final = Path(fastserve.__file__).parent

# Top to bottom. A room is named once for all its files; `fastserve` is the package's own __init__.
ORDER: Final = (
    ("__main__",),
    ("cli",),
    ("server",),
    ("entrance",),
    ("metrics_port",),
    ("endpoints",),
    ("websocket",),
    ("http11",),
    ("telemetry",),
    ("model",),
    ("interface",),
    ("codec",),
    ("messages",),
    ("lifecycle",),
    ("turns",),
    ("forks",),
    ("allocator",),
    ("combinations",),
    ("gpus",),
    ("config",),
    ("options",),
    ("metrics",),
    ("logs",),
    ("access_writer",),
    ("traceparent",),
    ("errors",),
    ("fastserve",),
)
LEVELS: Final = {name: level for level, names in enumerate(ORDER) for name in names}

# What a room may not see although it stands below: `endpoints` sees the model and no socket, `websocket` the sockets
# and no model, and a model knows nothing of requests, responses and how content is written.
HIDDEN: Final = {
    "http11": {"endpoints", "websocket", "model", "interface", "codec"},
    "endpoints": {"http11"},
    "websocket": {"model", "interface", "codec"},
    "model": {"http11", "endpoints", "websocket", "codec", "messages", "lifecycle"},
}


def read_sources(root: Path) -> dict[str, str]:
    """The dotted name of every module below `root`, and its source."""
    sources = {}
    for file in root.rglob("*.py"):
        parts = [root.name, *file.relative_to(root).with_suffix("").parts]
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text()
    return sources


def imports(module: str, sources: dict[str, str]) -> Iterator[tuple[str, int]]:
    """The modules of `sources` that `module` imports, anywhere in it, and the line; not those for type checkers."""
    pending: list[ast.AST] = [ast.parse(sources[module])]
    is_package = any(name.startswith(module + ".") for name in sources)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            origin = ".".join([*package, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in sources:
                name = name.rpartition(".")[0]
            if name:
                yield name, node.lineno


def room(module: str) -> str:
    """'model' for fastserve.model.steps, 'config' for fastserve.config, 'fastserve' for the package itself."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] or first


def mistakes(sources: dict[str, str]) -> list[str]:
    """Every import that goes up, sideways or in circles."""
    found = [f"{module} has no place in the order" for module in sources if room(module) not in LEVELS]
    graph: dict[str, set[str]] = {}
    for module in sources:
        graph[module] = set()
        for imported, line in imports(module, sources):
            graph[module].add(imported)
            here, there = room(module), room(imported)
            if here == there or not {here, there} <= LEVELS.keys():
                continue
            if there in HIDDEN.get(here, ()):
                found.append(f"{module}:{line}: {here} may not see {imported}")
            elif LEVELS[there] <= LEVELS[here]:
                found.append(f"{module}:{line}: {imported} stands above")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append("in circles: " + " -> ".join(error.args[1]))
    return found


def test_imports_only_go_down_and_the_rooms_keep_apart() -> None:
    assert mistakes(read_sources(ROOT)) == []


def test_the_imports_are_really_read() -> None:
    sources = read_sources(ROOT)
    assert {room(module) for module in sources} >= {"cli", "server", "http11", "endpoints", "model", "errors"}
    assert "fastserve.server" in dict(imports("fastserve.cli", sources))  # within a function
    assert "fastserve.model.runtime" in dict(imports("fastserve.server", sources))
    assert "fastserve" in dict(imports("fastserve.cli", sources))


GOOD: Final = {
    "fastserve": "",
    "fastserve.cli": "import fastserve\nfrom fastserve.server import run",
    "fastserve.server": "from fastserve.http11 import connection\nfrom fastserve.endpoints.predict import x",
    "fastserve.http11": "",
    "fastserve.http11.connection": "import fastserve.http11.flow\nfrom fastserve.messages import Request",
    "fastserve.http11.flow": "",
    "fastserve.endpoints": "",
    "fastserve.endpoints.predict": "from fastserve.model.runtime import Runtime",
    "fastserve.model": "",
    "fastserve.model.runtime": "from .steps import Job\nimport asyncio",
    "fastserve.model.steps": "from ..errors import ModelError",
    "fastserve.codec": "",
    "fastserve.codec.json_text": "",
    "fastserve.messages": "",
    "fastserve.errors": "",
}


def test_a_good_example_passes() -> None:
    assert mistakes(GOOD) == []


FLOW: Final = "fastserve.http11.flow"
PREDICT: Final = "fastserve.endpoints.predict"
STEPS: Final = "fastserve.model.steps"


@pytest.mark.parametrize(
    "module, source, words",
    [
        ("fastserve.errors", "import fastserve.cli", "fastserve.errors:1: fastserve.cli stands above"),
        (
            "fastserve.messages",
            "\nfrom fastserve import codec",
            "fastserve.messages:2: fastserve.codec stands above",
        ),
        (
            "fastserve.codec.json_text",
            "from .. import server",
            "fastserve.codec.json_text:1: fastserve.server stands above",
        ),
        (
            "fastserve.http11.flow",
            "from fastserve.endpoints import predict",
            "http11 may not see fastserve.endpoints",
        ),
        (
            "fastserve.http11.flow",
            "def f():\n    from fastserve.model import x",
            "http11 may not see fastserve.model",
        ),
        (
            "fastserve.endpoints.predict",
            "import fastserve.http11.flow",
            "endpoints may not see fastserve.http11.flow",
        ),
        (STEPS, "from ..endpoints.predict import x", "model may not see fastserve.endpoints"),
        (STEPS, "from fastserve.messages import Request", "model may not see fastserve.messages"),
        (STEPS, "from fastserve.codec import x", "model may not see fastserve.codec"),
        (FLOW, "from fastserve.codec.json_text import x", "http11 may not see fastserve.codec"),
        (STEPS, "from . import runtime", "in circles: fastserve.model."),
        (STEPS, "if True:\n    import fastserve.model.runtime", "in circles: fastserve.model."),
        ("fastserve.helpers", "", "fastserve.helpers has no place in the order"),
    ],
)
def test_a_bad_example_is_found(module: str, source: str, words: str) -> None:
    assert any(words in mistake for mistake in mistakes({**GOOD, module: source}))


def test_imports_for_type_checkers_alone_do_not_count() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fastserve.cli\n"
    assert mistakes({**GOOD, "fastserve.errors": source}) == []
    assert mistakes({**GOOD, "fastserve.errors": source + "else:\n    import fastserve.cli\n"}) != []


def test_no_file_is_named_like_a_module_of_the_standard_library() -> None:
    names = {module.rpartition(".")[2] for module in read_sources(ROOT)} - {"__main__"}
    assert names & sys.stdlib_module_names == set()
