"""A model's modules leave `sys.modules` and come back: which, in what state, read from what."""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

from fastserve.model.modules import Holds, import_from_source, put_back, take_out
from tests.support.kept_process import kept_process


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with kept_process(tmp_path):
        sys.path.insert(0, str(tmp_path))
        yield tmp_path


def write(root: Path, **files: str) -> None:
    """a__b="X = 1": the file a/b.py with that text."""
    for name, text in files.items():
        file = root / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def below(root: Path) -> Holds:
    return lambda path: path == str(root) or path.startswith(f"{root}/")


def names(root: Path) -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] in ("fs_a", "fs_b", "fs_c")}


def test_modules_packages_and_namespaces_are_taken_and_put_back_as_they_were(root: Path) -> None:
    write(root, fs_a="X = 1", fs_b__deep__inner="X = 1", fs_c__one="X = 1")
    (root / "fs_c" / "__init__.py").write_text("")
    for name in ("fs_a", "fs_b.deep.inner", "fs_c.one"):
        importlib.import_module(name)
    there = {name: sys.modules[name] for name in names(root)}
    assert set(there) == {"fs_a", "fs_b", "fs_b.deep", "fs_b.deep.inner", "fs_c", "fs_c.one"}
    taken = take_out(below(root), "model")
    assert (taken, names(root)) == (there, set())
    importlib.import_module("fs_b.deep.inner")
    write(root, fs_d="X = 1")
    importlib.import_module("fs_d")
    put_back(below(root), "model", taken)
    assert {name: sys.modules[name] for name in names(root)} == there
    assert "fs_d" not in sys.modules
    assert sys.modules["json"] is json


def test_what_is_imported_anew_is_what_is_there_now(root: Path) -> None:
    write(root, fs_a="X = 1")
    import_from_source(below(root))
    assert importlib.import_module("fs_a").X == 1
    write(root, fs_a="X = 2", fs_b="X = 3")
    take_out(below(root), "model")
    assert [importlib.import_module(name).X for name in ("fs_a", "fs_b")] == [2, 3]


def test_bytecode_is_neither_read_nor_written_and_only_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    inside, outside = root / "inside", root / "outside"
    sys.path[:0] = [str(inside), str(outside)]
    write(root, inside__fs_a="X = 1", outside__fs_b="X = 1", inside__fs_c="X = 1")
    for file in (inside / "fs_a.py", outside / "fs_b.py"):
        state = file.stat()
        py_compile.compile(str(file), doraise=True)
        file.write_text("X = 2")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    import_from_source(below(inside))
    take_out(below(root), "model")  # what sys.path_importer_cache has of earlier looks
    assert [importlib.import_module(name).X for name in ("fs_a", "fs_b", "fs_c")] == [2, 1, 1]
    assert [file.name.partition(".")[0] for file in inside.glob("__pycache__/*")] == ["fs_a"]


def test_a_package_with_compiled_parts_stays_but_the_model_s_own_goes(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(root, fs_a__code="", fs_b__code="", fs_c__code="")
    compiled = str(root / "fs_x" / f"part{EXTENSION_SUFFIXES[0]}")
    for name in ("fs_a", "fs_b", "fs_c"):
        importlib.import_module(f"{name}.code")
        if name != "fs_c":
            part = sys.modules[f"{name}.part"] = ModuleType(f"{name}.part")
            part.__file__ = compiled
    take_out(below(root), "fs_b")
    assert names(root) == {"fs_a", "fs_a.code", "fs_a.part", "fs_b.part"}
    (line,) = caplog.messages
    assert line.startswith("fs_a has compiled parts")
    for name in names(root):
        del sys.modules[name]


def test_strange_modules_do_no_harm(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy:
        def __getattr__(self, name: str) -> str:
            raise AssertionError("it is asked for attributes that it does not have")

    class Orphaned:
        def __iter__(self) -> Iterator[str]:
            raise KeyError("its parent is gone")

    orphan = ModuleType("fs_b")
    orphan.__path__ = Orphaned()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "fs_a", Lazy())
    monkeypatch.setitem(sys.modules, "fs_b", orphan)
    monkeypatch.setitem(sys.modules, "fs_c", None)
    assert take_out(below(root), "model") == {}
    assert names(root) == {"fs_a", "fs_b", "fs_c"}


def test_this_server_is_never_taken_out() -> None:
    before = dict(sys.modules)
    taken = take_out(lambda path: "/fastserve/" in path, "model")
    assert taken == {}
    assert sys.modules == before
