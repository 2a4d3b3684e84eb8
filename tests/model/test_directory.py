"""config.yaml: what is filled in, what is refused and where, what is only warned about."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import SetupError
from fastserve.model.directory import DEFAULTS, ModelDirectory, read_directory


def read(directory: Path, config: str) -> ModelDirectory:
    (directory / "config.yaml").write_text(config)
    return read_directory(directory)


@pytest.mark.parametrize("config", ["", "# only a comment\n", "---\n", "null\n", "{}\n"])
def test_an_empty_config_has_all_of_truss_defaults(tmp_path: Path, config: str) -> None:
    directory = read(tmp_path, config)
    assert directory.config == DEFAULTS
    assert directory.runtime == {}
    assert directory.path == tmp_path


def test_the_path_is_absolute_and_usable_whatever_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert read_directory(Path()).path == tmp_path


def test_what_a_model_changes_in_its_config_does_not_reach_the_defaults(tmp_path: Path) -> None:
    before = copy.deepcopy(DEFAULTS)
    config = read(tmp_path, "model_metadata: {a: 1}").config
    config["requirements"].append("torch")
    config["runtime"]["transport"]["kind"] = "grpc"
    config["model_metadata"]["b"] = 2
    assert before == DEFAULTS


def test_a_mapping_is_filled_up_and_other_values_replace_the_default(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "runtime: {predict_concurrency: 4}\nresources: {use_gpu: true}\nrequirements: [numpy]\nmodel_name: mine\n"
        "build: {arguments: {a: 1}}\nmodel_metadata: {a: {b: 1}}\n",
    ).config
    assert config["runtime"] == {**DEFAULTS["runtime"], "predict_concurrency": 4}
    assert config["resources"] == {**DEFAULTS["resources"], "use_gpu": True}
    assert config["requirements"] == ["numpy"]
    assert config["model_name"] == "mine"
    assert config["build"] == {**DEFAULTS["build"], "arguments": {"a": 1}}
    assert config["model_metadata"] == {"a": {"b": 1}}


def test_runtime_holds_only_what_the_file_says(tmp_path: Path) -> None:
    assert read(tmp_path, "runtime: {predict_concurrency: 4}").runtime == {"predict_concurrency": 4}


@pytest.mark.parametrize("key", [key for key, value in DEFAULTS.items() if isinstance(value, (dict, list))])
def test_a_section_with_nothing_behind_it_has_its_default(tmp_path: Path, key: str) -> None:
    directory = read(tmp_path, f"{key}:\n")
    assert directory.config == DEFAULTS
    assert directory.runtime == {}


@pytest.mark.parametrize(
    "line, words",
    [
        ("runtime: 5", ["runtime takes a mapping", "not 5"]),
        ("runtime: 0", ["runtime takes a mapping", "not 0"]),
        ("runtime: [a]", ["runtime takes a mapping", "not ['a']"]),
        ("model_metadata: text", ["model_metadata takes a mapping", "not 'text'"]),
        ("environment_variables: [A]", ["environment_variables takes a mapping"]),
        ("secrets: [token]", ["secrets takes a mapping of names"]),
        ("external_package_dirs: ../shared", ["external_package_dirs takes a list"]),
        ("data_dir: 5", ["data_dir takes a directory", "not 5"]),
        ("data_dir:", ["data_dir takes a directory", "not None"]),
        ("bundled_packages_dir: [a]", ["bundled_packages_dir takes a directory"]),
        ("model_module_dir: {a: 1}", ["model_module_dir takes a directory"]),
        ("model_class_filename: 1.5", ["model_class_filename takes a file name"]),
        ("model_class_name: true", ["model_class_name takes a class name", "not True"]),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_line(tmp_path: Path, line: str, words: list[str]) -> None:
    with pytest.raises(SetupError) as refused:
        read(tmp_path, f"# first line\nmodel_name: x\n{line}\n")
    for word in [f"{tmp_path / 'config.yaml'}:3: ", *words]:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    "config, place, word",
    [
        ("a: 1\nb: c: d\n", ":2:5: ", "mapping values are not allowed"),
        ("a: @b\n", ":1:4: ", "cannot start any token"),
        ("a: 1\nb: [\n", ":3:1: ", "did not find expected"),
        ("a: *b\n", ":1:4: ", "undefined alias"),
        ("a: 1\n? [b]\n: 2\n", ":2:3: ", "unhashable key"),
        ("a: !!python/object:os.system {}\n", ":1:4: ", "could not determine a constructor"),
        ("---\na: 1\n---\nb: 1\n", ":3:1: ", "another document"),
        ("- a\n- b\n", ":1: ", "takes a mapping of keys to values, not list"),
        ("text\n", ":1: ", "not str"),
        ("a: \x07\n", ": ", "control characters"),
        ("a: 2024-13-45\n", ": ", "month must be in 1..12"),
        ("a: 1\nb: !!int ''\n", ": ", ""),
        ("a: 1\nb: !!bool perhaps\n", ": ", ""),
        ("a: 1\nb: !!timestamp soon\n", ": ", ""),
    ],
)
def test_a_mistake_in_the_yaml_is_told_with_file_line_and_column(
    tmp_path: Path, config: str, place: str, word: str
) -> None:
    with pytest.raises(SetupError) as refused:
        read(tmp_path, config)
    assert str(refused.value).startswith(f"{tmp_path / 'config.yaml'}{place}")
    assert word in str(refused.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"model_name: caf\xe9\n")
    with pytest.raises(SetupError, match=r"config\.yaml: .*utf-8"):
        read_directory(tmp_path)


def test_what_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere: does not exist; give a model directory"):
        read_directory(tmp_path / "nowhere")
    (tmp_path / "model.py").touch()
    with pytest.raises(SetupError, match=r"model\.py: is not a directory; give a model directory"):
        read_directory(tmp_path / "model.py")


def test_a_directory_without_config_is_told_that_an_empty_one_will_do(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no config\.yaml; an empty one will do"):
        read_directory(tmp_path)


def test_config_yml_is_not_read_but_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "config.yml").touch()
    with pytest.raises(SetupError, match=r"did you mean config\.yml\? rename it"):
        read_directory(tmp_path)


def test_of_a_key_that_stands_twice_the_last_counts_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = read(tmp_path, "model_name: a\ndescription: x\nmodel_name: b\n")
    assert directory.config["model_name"] == "b"
    assert [r.getMessage() for r in caplog.records if "twice" in r.getMessage()] == [
        f"{tmp_path / 'config.yaml'}:3: model_name stands there twice; the last one counts"
    ]


def test_a_key_that_stands_twice_under_runtime_is_warned_about_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = read(tmp_path, "runtime:\n  predict_concurrency: 2\n  predict_concurrency: 3\n")
    assert directory.runtime == {"predict_concurrency": 3}
    assert [r.getMessage() for r in caplog.records if ":3: " in r.getMessage() and "twice" in r.getMessage()]


def test_unknown_keys_are_kept_and_those_near_a_known_one_are_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config: dict[Any, Any] = read(tmp_path, "my_own_thing: 7\nrequirments: [numpy]\n5: five\n").config
    assert (config["my_own_thing"], config["requirments"], config[5]) == (7, ["numpy"], "five")
    (warning,) = [r.getMessage() for r in caplog.records]
    assert "config.yaml:2: requirments" in warning
    assert "did you mean requirements?" in warning


def test_keys_that_are_known_or_like_none_are_not_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(tmp_path, "requirements: []\nruntime: {predict_concurrency: 1}\nxyz: 1\n")
    assert caplog.records == []


def test_environment_variables_have_truss_spelling(tmp_path: Path) -> None:
    config = read(tmp_path, "environment_variables: {A: true, B: false, C: , D: 1, E: 1.5, F: x, 7: seven}").config
    assert config["environment_variables"] == {
        "A": "true", "B": "false", "C": "None", "D": "1", "E": "1.5", "F": "x", "7": "seven"
    }  # fmt: skip


@pytest.mark.parametrize("variable", ['"A=B": 1', '"": 1', r'"A\0B": 1', r'A: "x\0y"'])
def test_what_cannot_be_an_environment_variable_is_refused(tmp_path: Path, variable: str) -> None:
    with pytest.raises(SetupError, match=r"config\.yaml:1: environment_variables"):
        read(tmp_path, f"environment_variables: {{{variable}}}")


@pytest.mark.parametrize("value", ["2", "0", "many"])
def test_more_than_one_worker_process_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(SetupError, match=r"config\.yaml:2: runtime\.num_workers takes only 1"):
        read(tmp_path, f"runtime:\n  num_workers: {value}\n")
    assert read(tmp_path, "runtime: {num_workers: 1}").config["runtime"]["num_workers"] == 1


def test_where_names_the_line_of_a_key_if_the_file_has_it(tmp_path: Path) -> None:
    directory = read(tmp_path, "model_name: x\nruntime:\n  # a comment\n  predict_concurrency: 2\n  7: x\n")
    file = tmp_path / "config.yaml"
    assert directory.where("runtime", "predict_concurrency") == f"{file}:4: runtime.predict_concurrency"
    assert directory.where("runtime", "7") == f"{file}:5: runtime.7"
    assert directory.where("runtime") == f"{file}:2: runtime"
    assert directory.where("secrets") == f"{file}: secrets"


def test_other_keys_than_those_read_here_may_have_any_type(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"resources": 5, "weights": "x", "trt_llm": {"a": 1}, "python_version": 3.1}
    config = read(tmp_path, "\n".join(f"{key}: {value}" for key, value in odd.items())).config
    assert {key: config[key] for key in odd} == odd


def test_defaults_are_filled_at_every_depth(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "runtime:\n  health_checks: {startup_threshold_seconds: 5}\n  transport:\n  oidc: null\n"
    )
    runtime = read_directory(tmp_path).config["runtime"]
    assert runtime["health_checks"]["restart_threshold_seconds"] is None
    assert runtime["health_checks"]["startup_threshold_seconds"] == 5
    assert (runtime["transport"], runtime["oidc"]) == ({"kind": "http"}, {"enabled": None})


def test_nesting_that_would_overflow_the_stack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: 1\nb: " + "[" * 100_000)
    with pytest.raises(SetupError, match=r"config\.yaml:2: nested more than"):
        read_directory(tmp_path)


def test_a_name_that_no_directory_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_directory(tmp_path / ("x" * 5000))


@pytest.mark.parametrize(
    "config, transport",
    [
        ("", {"kind": "http"}),
        ("runtime: {transport: {kind: grpc}}", {"kind": "grpc"}),
        (
            "runtime: {is_websocket_endpoint: true}",
            {"kind": "websocket", "ping_interval_seconds": None, "ping_timeout_seconds": None},
        ),
        (
            "runtime: {transport: {kind: websocket, ping_interval_seconds: 3}}",
            {"kind": "websocket", "ping_interval_seconds": 3, "ping_timeout_seconds": None},
        ),
        ("runtime: {transport: http}", "http"),
    ],
)
def test_a_model_sees_the_transport_as_truss_fills_it_in(tmp_path: Path, config: str, transport: object) -> None:
    runtime = read(tmp_path, config).config["runtime"]
    assert runtime["transport"] == transport
    assert runtime["is_websocket_endpoint"] is ("websocket" in config)


@pytest.mark.parametrize("said", ["pin: 90817263", "90817263: x", "pin: true", "pin: [90817263]"])
def test_a_secret_that_is_no_text_is_refused_as_by_truss_and_not_shown(tmp_path: Path, said: str) -> None:
    name, _, value = said.partition(": ")
    with pytest.raises(SetupError, match=rf"config\.yaml:2: secrets\.{name} takes a text, .* or null$") as refused:
        read(tmp_path, f"secrets:\n  {said}\n")
    assert value == "x" or value not in str(refused.value)


@pytest.mark.parametrize("section", ["secrets", "environment_variables"])
@pytest.mark.parametrize("said", ["hf_abc", "[hf_abc]", "[{token: hf_abc}]"])
def test_what_is_no_mapping_of_secrets_is_refused_without_showing_it(tmp_path: Path, section: str, said: str) -> None:
    with pytest.raises(SetupError, match=rf"config\.yaml:1: {section} takes a mapping of names to values") as refused:
        read(tmp_path, f"{section}: {said}\n")
    assert "hf_abc" not in str(refused.value)


def test_secrets_may_be_texts_or_null(tmp_path: Path) -> None:
    assert read(tmp_path, "secrets: {a: '1', b: null}").config["secrets"] == {"a": "1", "b": None}
