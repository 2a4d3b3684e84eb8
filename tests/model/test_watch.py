"""Which files make up a model, and when a change of one counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastserve.errors import SetupError
from fastserve.model.directory import read_directory
from fastserve.model.watch import SourceTree, Stamp


def make_tree(root: Path, *files: str, config: str = "") -> SourceTree:
    write(root, "m/config.yaml", config)
    write(root, *(f"m/{file}" for file in files))
    return SourceTree(read_directory(root / "m"))


def write(root: Path, *files: str) -> None:
    """Each file of the name given; the last one with a text if it is not the name of a file."""
    *names, text = files if len(files) == 2 and files[0].endswith("config.yaml") else (*files, "x")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def scanned(tree: SourceTree, root: Path) -> set[str]:
    return {os.path.relpath(path, root / "m") for path in tree.scan()}


# --- which ---


def test_everything_below_the_directory_is_watched(tmp_path: Path) -> None:
    files = {"model/model.py", "model/sub/deep.py", "model/prompt.txt", "packages/bundled/a.py", "other.json"}
    tree = make_tree(tmp_path, *files)
    assert scanned(tree, tmp_path) == files | {"config.yaml"}
    assert all(tree.holds(str(tmp_path / "m" / file)) for file in files)
    assert tree.holds(str(tmp_path / "m"))


@pytest.mark.parametrize(
    "file",
    [
        "model/__pycache__/model.cpython-311.pyc",
        "model/old.pyc",
        "model/.model.py.swp",
        "model/model.py~",
        "model/#model.py#",
        "model/.#model.py",
        "data/weights.bin",
        "data/sub/code.py",
        ".git/HEAD",
        ".venv/lib/a.py",
        "node_modules/a/a.py",
        "lib/python3.11/site-packages/a.py",
        "server.log",
    ],
)
def test_what_nobody_edits_is_not_watched(tmp_path: Path, file: str) -> None:
    tree = make_tree(tmp_path, "model/model.py", file)
    assert scanned(tree, tmp_path) == {"model/model.py", "config.yaml"}


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_an_environment_of_any_name_is_neither_watched_nor_the_model_s(tmp_path: Path, mark: str) -> None:
    tree = make_tree(tmp_path, "model/model.py", f"venv/{mark}", "venv/lib/torch/__init__.py")
    assert scanned(tree, tmp_path) == {"model/model.py", "config.yaml"}
    for _ in range(2):  # the second time it is known
        assert not tree.holds(str(tmp_path / "m/venv/lib/torch/__init__.py"))


def test_package_directories_elsewhere_are_watched_too(tmp_path: Path) -> None:
    write(tmp_path, "shared/a.py", "bundled/b.py", "unshared/c.py")
    config = "external_package_dirs: [../shared]\nbundled_packages_dir: ../bundled\ndata_dir: ../shared/data"
    write(tmp_path, "shared/data/d.py", "shared/data/e.py")
    tree = make_tree(tmp_path, config=config)
    assert scanned(tree, tmp_path) == {"config.yaml", "../shared/a.py", "../bundled/b.py"}
    assert tree.holds(str(tmp_path / "shared/a.py"))
    assert not tree.holds(str(tmp_path / "unshared/c.py"))
    assert not tree.holds(str(tmp_path / "shared"[:-1]))


def test_a_package_directory_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nowhere is not a directory"):
        make_tree(tmp_path, config="external_package_dirs: [nowhere]")


def test_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/a.py", "elsewhere/b.py")
    tree = make_tree(tmp_path, "model/model.py")
    (tmp_path / "m/model/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "m/model/nowhere.py").symlink_to(tmp_path / "nothing")
    assert scanned(tree, tmp_path) == {"config.yaml", "model/model.py", "model/linked/a.py", "model/linked/b.py"}


def test_the_file_this_process_prints_to_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(tmp_path, "model/model.py", "printed")
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        if descriptor == 1:
            raise OSError("closed")
        return (tmp_path / "m" / "printed").stat() if descriptor == 2 else real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    assert scanned(tree, tmp_path) == {"config.yaml", "model/model.py"}


def test_a_directory_that_goes_away_is_empty(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tmp_path / "m" / "config.yaml").unlink()
    (tmp_path / "m").rmdir()
    assert tree.scan() == {}


# --- when a change counts ---


def stamp(number: int) -> Stamp:
    return Stamp(number, 1, 1)


@pytest.mark.parametrize(
    "file, before, now, changed",
    [
        ("model/model.py", 1, 1, False),
        ("model/model.py", 1, 2, True),
        ("model/model.py", 1, None, True),
        ("model/model.py", None, 1, True),
        ("config.yaml", 1, 2, True),
        ("prompt.txt", 1, 2, True),
        ("prompt.txt", 1, None, False),
        ("output.png", None, 1, False),  # what a predict has written
        ("other/config.yaml", None, 1, False),
    ],
)
def test_sources_count_always_and_other_files_if_they_were_there(
    tmp_path: Path, file: str, before: int | None, now: int | None, changed: bool
) -> None:
    tree = make_tree(tmp_path)
    path = str(tmp_path / "m" / file)
    then, today = ({path: stamp(number)} if number else {} for number in (before, now))
    assert tree.changes(then, today) == ([path] if changed else [])
    assert tree.changes(then, today, counts_new=True) == ([path] if before != now else [])


def test_a_change_is_told_from_none_by_time_size_and_inode(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "a.py", "b.py", "c.py", "d.py")
    before = tree.scan()
    assert tree.changes(before, tree.scan()) == []
    root = tmp_path / "m"
    modified = (root / "a.py").stat().st_mtime_ns
    os.utime(root / "a.py", ns=(modified, modified + 1_000))
    (root / "b.py").write_text("longer")
    (root / "new").write_text("x")
    (root / "new").replace(root / "c.py")
    assert tree.changes(before, tree.scan()) == [str(root / name) for name in ("a.py", "b.py", "c.py")]


def test_a_load_has_seen_the_sources_as_they_were_and_what_it_has_written_itself(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    source, gone, new, written = (str(tmp_path / name) for name in ("a.py", "b.py", "c.py", "cache.bin"))
    began = {source: stamp(1), gone: stamp(1), written: stamp(1)}
    ended = {source: stamp(2), new: stamp(2), written: stamp(2)}
    seen = tree.merge(began, ended)
    assert tree.changes(seen, ended) == [source, gone, new]
    assert set(tree.sources(ended)) == {source, new}


def test_a_hot_reload_has_seen_everything_but_config_yaml(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    source, config = str(tmp_path / "m/a.py"), str(tmp_path / "m/config.yaml")
    now = {source: stamp(2), config: stamp(2)}
    assert tree.changes(tree.merge_config({source: stamp(1), config: stamp(1)}, now), now) == [config]
    assert tree.changes(tree.merge_config({source: stamp(1), config: stamp(2)}, now), now) == []
