"""What `__init__` is given: which of the five arguments, and what they are."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import Config
from fastserve.errors import ModelDefinitionError, SetupError
from fastserve.model.arguments import LazyDataResolver, SecretNotFound, Secrets
from fastserve.model.arguments import make_arguments as make_with
from fastserve.model.directory import ModelDirectory, read_directory

ALL = {"config", "data_dir", "secrets", "lazy_data_resolver", "environment"}


@pytest.fixture(autouse=True)
def _mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory is the model's; the platform's mounts are `secrets` and `dynamic` in it."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("TRUSS_SECRET_"):
            monkeypatch.delenv(name)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "dynamic").mkdir()
    yield


def directory(config: str = "") -> ModelDirectory:
    Path("config.yaml").write_text(config)
    return read_directory(Path.cwd())


def make_arguments(directory: ModelDirectory, model_class: type) -> dict[str, Any]:
    config = Config(secrets_path=str(Path.cwd() / "secrets"), dynamic_config_path=str(Path.cwd() / "dynamic"))
    return make_with(directory, model_class, config)


class Five:
    def __init__(
        self, config: Any, data_dir: Any, secrets: Any, lazy_data_resolver: Any, environment: Any
    ) -> None: ...


class Two:
    def __init__(self, secrets: Any, config: Any = None) -> None: ...


class Everything:
    def __init__(self, **kwargs: Any) -> None: ...


class StarsOnly:
    def __init__(*args: Any, **kwargs: Any) -> None: ...


class Positional:
    def __init__(self, *args: Any) -> None: ...


class Nothing:
    pass


class Own:
    def __init__(self, config: Any, batch_size: int = 8, *, verbose: bool = False) -> None: ...


class WithoutSignature(dict[str, int]):
    """Its constructor is in C."""


class WithNew:
    def __new__(cls, config: Any) -> WithNew:
        return super().__new__(cls)


@pytest.mark.parametrize(
    "model_class, names",
    [
        (Five, ALL),
        (Two, {"secrets", "config"}),
        (Everything, ALL),
        (StarsOnly, ALL),
        (Positional, set()),
        (Nothing, set()),
        (Own, {"config"}),
        (WithNew, {"config"}),
    ],
)
def test_a_model_is_given_what_its_signature_names(model_class: type, names: set[str]) -> None:
    given = make_arguments(directory(), model_class)
    assert set(given) == names
    model_class(**given)


def test_a_class_whose_signature_python_cannot_tell_is_given_nothing() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(WithoutSignature)
    assert make_arguments(directory(), WithoutSignature) == {}


class Asks:
    def __init__(self, config: Any, tokenizer: Any) -> None: ...


class AsksByKeyword:
    def __init__(self, *, tokenizer: Any) -> None: ...


class AsksBesideStars:
    def __init__(self, tokenizer: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("model_class", [Asks, AsksByKeyword, AsksBesideStars])
def test_a_required_argument_that_is_not_known_is_refused_by_name(model_class: type) -> None:
    with pytest.raises(ModelDefinitionError) as refused:
        make_arguments(directory(), model_class)
    for word in (f"`{model_class.__name__}.__init__` requires `tokenizer`", "config, data_dir, secrets", "a default"):
        assert word in str(refused.value)


def test_config_is_the_directory_s_own_dict() -> None:
    read = directory("model_metadata: {a: 1}")
    assert make_arguments(read, Two)["config"] is read.config


# --- secrets ---


def test_a_secret_is_taken_from_the_file_before_the_environment_before_the_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = make_arguments(directory("secrets: {token: from-config}"), Two)["secrets"]
    assert secrets["token"] == "from-config"
    monkeypatch.setenv("TRUSS_SECRET_token", "from-environment")
    assert secrets["token"] == "from-environment"
    Path("secrets/token").write_text("from-file\n")
    assert secrets["token"] == "from-file\n"  # not stripped, as by Truss


def test_a_secret_that_the_config_does_not_name_is_not_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSS_SECRET_other", "x")
    Path("secrets/other").write_text("x")
    with pytest.raises(SecretNotFound, match=r"'other' is not in the config: name it under `secrets`"):
        Secrets({"token": "x"}, Path.cwd() / "secrets")["other"]


@pytest.mark.parametrize("value", [None, ""])
def test_a_secret_without_a_value_is_not_found_and_told_where_it_was_sought(value: str | None) -> None:
    with pytest.raises(SecretNotFound) as missing:
        Secrets({"token": value}, Path.cwd() / "secrets")["token"]
    for word in ("'token'", str(Path.cwd() / "secrets" / "token"), "TRUSS_SECRET_token", "config.yaml"):
        assert word in str(missing.value)


def test_an_empty_file_leaves_a_secret_without_a_value() -> None:
    Path("secrets/token").touch()
    with pytest.raises(SecretNotFound):
        Secrets({"token": "from-config"}, Path.cwd() / "secrets")["token"]


def test_get_and_in_raise_instead_of_defaulting() -> None:
    secrets = Secrets({"token": None}, Path.cwd() / "secrets")
    for name in ("token", "other"):
        with pytest.raises(SecretNotFound):
            secrets.get(name, "default")
        with pytest.raises(SecretNotFound):
            assert name in secrets
    assert not issubclass(SecretNotFound, KeyError)


def test_secrets_can_be_counted_but_not_iterated() -> None:
    secrets = Secrets({"a": None, "b": "x"}, Path.cwd() / "secrets")
    assert len(secrets) == 2
    with pytest.raises(NotImplementedError):
        list(secrets)


# --- data_dir ---


class Data:
    def __init__(self, data_dir: Path) -> None: ...


@pytest.mark.parametrize("config, expected", [("", "data"), ("data_dir: weights/large", "weights/large")])
def test_data_dir_is_relative_and_made(config: str, expected: str) -> None:
    for _ in range(2):  # the second time it is there
        assert make_arguments(directory(config), Data) == {"data_dir": Path(expected)}
        assert Path(expected).is_dir()


def test_data_dir_is_not_made_for_a_model_that_does_not_ask() -> None:
    make_arguments(directory(), Two)
    assert not Path("data").exists()


def test_a_data_dir_that_cannot_be_made_is_refused_with_its_line() -> None:
    Path("taken").touch()
    with pytest.raises(SetupError, match=r"config\.yaml:1: data_dir: cannot be made: "):
        make_arguments(directory("data_dir: taken"), Data)


# --- environment, lazy_data_resolver ---


class Environment:
    def __init__(self, environment: Any) -> None: ...


@pytest.mark.parametrize(
    "text, expected",
    [(None, None), ("", None), (" \n", None), ("null", None), ('{"name": "production"}', {"name": "production"})],
)
def test_environment_is_the_json_of_its_file(text: str | None, expected: object) -> None:
    if text is not None:
        Path("dynamic/environment").write_text(text)
    assert make_arguments(directory(), Environment) == {"environment": expected}


def test_an_environment_that_is_not_json_is_refused() -> None:
    Path("dynamic/environment").write_text("{production")
    with pytest.raises(SetupError, match=r"dynamic/environment: not JSON: "):
        make_arguments(directory(), Environment)


def test_the_lazy_data_resolver_has_nothing_to_download() -> None:
    resolver = make_arguments(directory(), Five)["lazy_data_resolver"]
    assert isinstance(resolver, LazyDataResolver)
    assert resolver.block_until_download_complete() == ""
    assert resolver.block_until_download_complete(log_stats=False, issue_collect=False) == ""
    resolver.raise_if_not_collected()
