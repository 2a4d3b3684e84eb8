"""A directory on disk becomes a model object: paths and variables, the module's name, what is missing."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastserve.config import Config
from fastserve.errors import SetupError
from fastserve.logs import trimmed
from fastserve.model.directory import ModelDirectory, read_directory
from fastserve.model.loader import find_load, is_async, make_model, prepare_process

PLAIN = "class Model:\n    def predict(self, model_input):\n        return model_input\n"


@pytest.fixture(autouse=True)
def _process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What loading a model changes in the process is put back."""
    cwd, path, modules, environ = Path.cwd(), sys.path[:], set(sys.modules), dict(os.environ)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    os.chdir(cwd)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environ)
    for name in [n for n in set(sys.modules) - modules if _is_below(sys.modules[n], tmp_path)]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _is_below(module: ModuleType, directory: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(place is not None and Path(place).is_relative_to(directory) for place in places)


def write(root: Path, files: dict[str, str]) -> ModelDirectory:
    """Make `files` under root/truss, and read it; config.yaml is empty if not among them."""
    for name, text in {"config.yaml": "", **files}.items():
        file = root / "truss" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return read_directory(root / "truss")


def make(root: Path, files: dict[str, str]) -> Any:
    directory = write(root, files)
    prepare_process(directory)
    return make_model(directory, Config())


# --- the process ---


def test_the_working_directory_is_the_model_s(tmp_path: Path) -> None:
    prepare_process(write(tmp_path, {}))
    assert Path.cwd() == tmp_path / "truss"


def test_environment_variables_are_set_before_the_model_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TEST_OF_FASTSERVE", "outside")
    model = make(
        tmp_path,
        {
            "config.yaml": "environment_variables: {A_TEST_OF_FASTSERVE: inside}",
            "model/model.py": "import os\nSEEN = os.environ['A_TEST_OF_FASTSERVE']\n" + PLAIN,
        },
    )
    assert sys.modules[type(model).__module__].SEEN == "inside"


def test_the_directory_is_first_on_the_path_and_packages_are_last(tmp_path: Path) -> None:
    before = sys.path[:]
    (tmp_path / "shared").mkdir()
    (tmp_path / "more").mkdir()
    config = f"external_package_dirs: [../shared, {tmp_path / 'more'}]"
    prepare_process(write(tmp_path, {"config.yaml": config, "packages/inside.py": ""}))
    truss = str(tmp_path / "truss")
    packages = [str(tmp_path / "truss" / "packages"), str(tmp_path / "shared"), str(tmp_path / "more")]
    assert sys.path == [truss, *before, *packages]


def test_bundled_packages_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    before = sys.path[:]
    prepare_process(write(tmp_path, {"config.yaml": "bundled_packages_dir: nowhere"}))
    assert sys.path[1:] == before


def test_an_external_package_directory_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, {"config.yaml": r'external_package_dirs: ["a\0b"]'})
    with pytest.raises(SetupError, match=r"config\.yaml:1: external_package_dirs: "):
        prepare_process(directory)


@pytest.mark.parametrize("name", ["../nowhere", "/nowhere/at/all", "config.yaml"])
def test_an_external_package_directory_must_be_there(tmp_path: Path, name: str) -> None:
    directory = write(tmp_path, {"config.yaml": f"model_name: x\nexternal_package_dirs: [{name}]\n"})
    with pytest.raises(SetupError, match=r"config\.yaml:2: external_package_dirs: .* is not a directory"):
        prepare_process(directory)


def test_a_model_imports_from_its_packages(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "outside_fastserve_test.py").write_text("NAME = 'outside'\n")
    source = "from inside_fastserve_test import NAME as A\nfrom outside_fastserve_test import NAME as B\n" + PLAIN
    model = make(
        tmp_path,
        {
            "config.yaml": "bundled_packages_dir: lib\nexternal_package_dirs: [../shared]",
            "lib/inside_fastserve_test.py": "NAME = 'inside'\n",
            "model/model.py": source,
        },
    )
    module = sys.modules[type(model).__module__]
    assert (module.A, module.B) == ("inside", "outside")


# --- the module ---


def test_the_model_is_made_with_what_its_init_asks_for(tmp_path: Path) -> None:
    source = "class Model:\n    def __init__(self, config, data_dir):\n        self.given = config, data_dir\n"
    directory = write(tmp_path, {"model/model.py": source})
    prepare_process(directory)
    assert make_model(directory, Config()).given == (directory.config, Path("data"))


def test_the_module_is_a_submodule_of_its_directory(tmp_path: Path) -> None:
    model = make(tmp_path, {"model/model.py": PLAIN})
    assert type(model).__module__ == "model.model"
    assert importlib.import_module("model.model").Model is type(model)


def test_the_module_is_an_attribute_of_its_package_like_any_submodule(tmp_path: Path) -> None:
    source = "NAME = 'seen'\n" + PLAIN
    other = "import model.model\n\ndef name():\n    return model.model.NAME\n"
    make(tmp_path, {"model/model.py": source, "model/other.py": other})
    assert importlib.import_module("model.other").name() == "seen"


PICKLED = "import enum\nclass Colour(enum.Enum):\n    RED = 1\n" + PLAIN
IMPORTING = "from .sub import NAME\n" + PICKLED

# model_module_dir, and the directory it stands for under `truss`
PLACES = [
    ("model", "model"),
    ("./model/", "model"),
    ("src/serving", "src/serving"),
    ("code", "code"),  # the standard library has one
    ("code/model", "code/model"),
    ("json", "json"),  # a package of the standard library
    ("my-model", "my-model"),
    ("my.model", "my.model"),
    ("class", "class"),
    ("../shared/model", "../shared/model"),
]


@pytest.mark.parametrize("said, place", PLACES)
def test_wherever_the_module_is_it_imports_relatively_and_its_classes_can_be_pickled(
    tmp_path: Path, said: str, place: str
) -> None:
    files = {
        "config.yaml": f"model_module_dir: {said}",
        f"{place}/model.py": IMPORTING,
        f"{place}/sub.py": "NAME = 'sub'\n",
    }
    model = make(tmp_path, files)
    module = sys.modules[type(model).__module__]
    assert module.NAME == "sub"
    assert type(pickle.loads(pickle.dumps(model))) is type(model)
    assert pickle.loads(pickle.dumps(module.Colour.RED)) is module.Colour.RED


def test_an_absolute_module_directory_may_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.py").write_text(IMPORTING)
    (tmp_path / "elsewhere" / "sub.py").write_text("NAME = 'sub'\n")
    model = make(tmp_path, {"config.yaml": f"model_module_dir: {tmp_path / 'elsewhere'}"})
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


@pytest.mark.parametrize("said", [".", "./", "../truss"])
def test_a_module_in_the_directory_itself_has_its_bare_name(tmp_path: Path, said: str) -> None:
    model = make(tmp_path, {"config.yaml": f"model_module_dir: {said}", "model.py": PICKLED})
    assert type(model).__module__ == "model"
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_a_name_the_standard_library_has_keeps_meaning_the_standard_library_s(tmp_path: Path) -> None:
    make(tmp_path, {"config.yaml": "model_module_dir: code", "code/model.py": PLAIN})
    assert hasattr(importlib.import_module("code"), "InteractiveConsole")


@pytest.mark.parametrize("init", [False, True])
def test_the_model_imports_by_its_directory_s_name(tmp_path: Path, init: bool) -> None:
    files = {"model/model.py": "from model.sub import NAME\n" + PLAIN, "model/sub.py": "NAME = 'sub'\n"}
    model = make(tmp_path, {**files, **({"model/__init__.py": ""} if init else {})})
    assert sys.modules[type(model).__module__].NAME == "sub"


def test_a_package_that_imports_the_module_itself_does_not_make_it_run_twice(tmp_path: Path) -> None:
    source = "from pathlib import Path\nwith Path('runs').open('a') as file:\n    file.write('x')\n" + PLAIN
    model = make(tmp_path, {"model/model.py": source, "model/__init__.py": "from .model import Model\n"})
    assert Path("runs").read_text() == "x"
    assert type(model) is importlib.import_module("model").Model


def test_a_dataclass_under_future_annotations_can_be_defined(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass\nclass Answer:\n    text: str\n    more: Answer | None = None\n" + PLAIN
    )
    model = make(tmp_path, {"model/model.py": source})
    answer = sys.modules[type(model).__module__].Answer("yes")
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_class_and_file_may_have_other_names(tmp_path: Path) -> None:
    config = "model_class_filename: serve.py\nmodel_class_name: Whisper\n"
    model = make(tmp_path, {"config.yaml": config, "model/serve.py": PLAIN.replace("Model", "Whisper")})
    assert (type(model).__module__, type(model).__name__) == ("model.serve", "Whisper")


def test_a_class_that_was_imported_is_a_model_too(tmp_path: Path) -> None:
    model = make(tmp_path, {"model/model.py": "from model.sub import Model\n", "model/sub.py": PLAIN})
    assert type(model).__module__ == "model.sub"


def test_what_the_module_raises_passes_through_and_leaves_no_half_of_it_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        make(tmp_path, {"model/model.py": "1 / 0\n"})
    assert "model.model" not in sys.modules


def test_a_package_whose_init_misses_a_dependency_says_so(tmp_path: Path) -> None:
    files = {"model/model.py": PLAIN, "model/__init__.py": "import surely_not_installed\n"}
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        make(tmp_path, files)


@pytest.mark.parametrize("given", ["truss", "link", "other/../truss", "other"])
def test_a_traceback_of_user_code_is_told_by_the_directory_s_path_however_it_was_reached(
    tmp_path: Path, given: str
) -> None:
    write(tmp_path, {"model/model.py": "class Model:\n    def __init__(self):\n        1 / 0\n"})
    (tmp_path / "link").symlink_to("truss")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").touch()
    (tmp_path / "other" / "model").symlink_to("../truss/model")
    directory = read_directory(tmp_path / given)
    prepare_process(directory)
    with pytest.raises(ZeroDivisionError) as raised:
        make_model(directory, Config())
    assert trimmed(raised.value, str(directory.path)).__traceback__ is not None


# --- what is missing ---


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, ["model/model.py: no such file", "write a class Model there", "model_class_filename"]),
        ({"model/modle.py": PLAIN}, ["model/model.py: no such file", "did you mean modle.py?"]),
        ({"model/model.py/x": ""}, ["model/model.py: no such file"]),
        ({"config.yaml": "model_class_filename: serve.py", "model/model.py": PLAIN}, ["model/serve.py: no such"]),
        ({"config.yaml": "model_class_filename: m.txt", "model/m.txt": PLAIN}, ["m.txt: not a Python file"]),
        ({"model/model.py": ""}, ["model.py: no class Model;", "write `class Model:`"]),
        ({"model/model.py": "class Modle: pass\n"}, ["no class Model (did you mean Modle?)", "model_class_name"]),
        ({"model/model.py": "class A: pass\nclass B: pass\n"}, ["no class Model (it has A, B)"]),
        ({"model/model.py": "from pathlib import Path\n"}, ["no class Model;"]),
        ({"model/model.py": "def Model(): pass\n"}, ["no class Model"]),
        ({"config.yaml": "model_class_name: Whisper", "model/model.py": PLAIN}, ["no class Whisper (it has Model)"]),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, files: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SetupError) as refused:
        make(tmp_path, files)
    for word in words:
        assert word in str(refused.value)


# --- load ---


class Loads:
    loaded = False

    def load(self) -> None:
        self.loaded = True


class LoadsAsync:
    async def load(self) -> None: ...


class LoadIsData:
    load = "weights"


def test_find_load_finds_a_method_and_nothing_else() -> None:
    model = Loads()
    load = find_load(model)
    assert load is not None
    load()
    assert model.loaded
    assert find_load(LoadIsData()) is None
    assert find_load(object()) is None


def test_is_async_knows_a_coroutine_function() -> None:
    assert is_async(LoadsAsync().load)
    assert is_async(functools.partial(LoadsAsync().load))
    assert not is_async(Loads().load)
