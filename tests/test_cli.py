"""The command line: what it hands to the server, and every mistake as one clear message and an exit status."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import runpy
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastserve
from fastserve import cli
from fastserve.cli import make_parser, parse_arguments
from fastserve.config import OPTIONS, Config
from fastserve.errors import SetupError
from fastserve.model.directory import DEFAULTS, ModelDirectory
from fastserve.model.reload import Reread
from tests.support.logs import kept_logs
from tests.support.process import run_to_end, write_model

MODEL = "class Model:\n    def predict(self, model_input):\n        return model_input\n"
PACKAGE = str(Path(fastserve.__file__).parent)

Runs = list[tuple[ModelDirectory, Config]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours."""
    for name in list(os.environ):
        if name.startswith("FASTSERVE_") or name in ("PORT", "INFERENCE_SERVER_PORT", "DISABLE_JSON_LOGGING"):
            monkeypatch.delenv(name)


@contextlib.contextmanager
def fresh_logs() -> Iterator[None]:
    """The root logger as a fresh process has it, without pytest's handlers."""
    with kept_logs():
        logging.getLogger().handlers[:] = []
        yield


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What the server was asked to run: nothing is run here."""
    asked: Runs = []

    def run(directory: ModelDirectory, config: Config, reread: Reread) -> int:
        asked.append((directory, config))
        return 0

    monkeypatch.setattr("fastserve.server.run", run)
    return asked


def main(*argv: object) -> int:
    with fresh_logs():
        return cli.main([str(word) for word in argv])


# --- what is run ---


def test_a_directory_alone_is_run_with_the_defaults(tmp_path: Path, runs: Runs) -> None:
    assert main(write_model(tmp_path, MODEL)) == 0
    ((directory, config),) = runs
    assert (directory.path, directory.config, config) == (tmp_path, DEFAULTS, Config())


def test_flags_environment_and_file_come_together(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, MODEL, "runtime: {streaming_read_timeout: 5, on_stream_error: end}")
    monkeypatch.setenv("FASTSERVE_HOST", "0.0.0.0")
    monkeypatch.setenv("PORT", "81")
    assert main("--port=80", tmp_path, "--max-request-size", "1M") == 0
    ((_, config),) = runs
    assert config == Config(
        port=80, host="0.0.0.0", max_content_bytes=1 << 20, streaming_read_timeout_s=5.0, on_stream_error="end"
    )


def test_the_model_sees_the_concurrency_that_holds(tmp_path: Path, runs: Runs) -> None:
    write_model(tmp_path, MODEL, "runtime: {predict_concurrency: 2}")
    main(tmp_path)
    main(tmp_path, "--concurrency", "3")
    assert [directory.config["runtime"]["predict_concurrency"] for directory, _ in runs] == [2, 3]


VALUED = [name for name, option in OPTIONS.items() if option.off_flag is None]
SWITCHES = [name for name in OPTIONS if name not in VALUED]


@pytest.mark.parametrize("name", VALUED)
def test_every_option_is_a_flag(name: str) -> None:
    flag = OPTIONS[name].flag
    for argv in (["dir", flag, "7"], ["dir", f"{flag}=7"], [flag, "7", "dir"]):
        assert parse_arguments(argv) == {"directory": "dir", name: "7"}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_a_flag_without_a_value_and_has_an_opposite(name: str) -> None:
    flag = OPTIONS[name].flag
    for argv in (["dir", flag], [flag, "dir"], [f"--no-{flag[2:]}", flag, "dir"]):
        assert parse_arguments(argv) == {"directory": "dir", name: "on"}
    assert parse_arguments(["dir", flag, f"--no-{flag[2:]}"]) == {"directory": "dir", name: "off"}
    assert parse_arguments(["dir"]) == {"directory": "dir"}


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(
    "said, flag, is_on",
    [("1", "--", True), ("true", "--", True), ("on", "--no-", False), ("off", "--", True), ("0", "--no-", False)],
)
def test_a_switch_given_as_a_flag_wins_over_the_environment(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, name: str, said: str, flag: str, is_on: bool
) -> None:
    option = OPTIONS[name]
    monkeypatch.setenv(option.variable, said)
    main(write_model(tmp_path, MODEL))
    main(tmp_path, flag + option.flag[2:])
    assert [getattr(config, name) for _, config in runs] == [said in ("1", "true", "on"), is_on]


def test_config_yaml_can_be_read_anew_with_what_else_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(directory: ModelDirectory, config: Config, reread: Reread) -> int:
        os.environ["PORT"] = "83"  # as `environment_variables` of config.yaml may
        write_model(tmp_path, MODEL, "runtime: {predict_concurrency: 3, streaming_read_timeout: 5}")
        seen.append(reread())
        return 0

    monkeypatch.setattr("fastserve.server.run", run)
    monkeypatch.setenv("PORT", "82")
    monkeypatch.chdir(write_model(tmp_path, MODEL).parent)
    assert main(tmp_path.name, "--streaming-read-timeout", "7") == 0
    ((directory, config),) = seen
    assert (directory.path, directory.config["runtime"]["predict_concurrency"]) == (tmp_path, 3)
    assert (config.predict_concurrency, config.streaming_read_timeout_s, config.port) == (3, 7.0, 82)


def test_at_debug_the_log_says_what_is_set_and_where(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "80")
    monkeypatch.setenv("FASTSERVE_HOST", "::1")
    directory = write_model(tmp_path, MODEL, "runtime:\n  predict_concurrency: 4\n  json: python")
    argv = [directory, "--host", "::", "--log-format", "text", "--log-level"]
    assert main(*argv, "debug") == 0
    told = re.findall(r"set: (.*)", capsys.readouterr().err)
    assert sorted(told) == [
        f"--concurrency 4 ({tmp_path}/config.yaml:2: runtime.predict_concurrency)",
        "--host :: (--host)",
        f"--json python ({tmp_path}/config.yaml:3: runtime.json)",
        "--log-format text (--log-format)",
        "--log-level debug (--log-level)",
        "--port 80 (PORT)",
    ]
    assert main(*argv, "info") == 0
    assert "set: " not in capsys.readouterr().err


def test_the_exit_status_is_the_server_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.server.run", lambda *_: 7)
    monkeypatch.setattr(sys, "argv", ["fastserve", str(write_model(tmp_path, MODEL))])
    with fresh_logs(), pytest.raises(SystemExit) as ended:
        runpy.run_module("fastserve", run_name="__main__")
    assert ended.value.code == 7


def test_what_a_model_prints_is_seen_line_by_line(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with io.TextIOWrapper(io.BytesIO()) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        main(write_model(tmp_path, MODEL))
        assert stdout.line_buffering
        monkeypatch.setattr(sys, "stdout", io.StringIO())  # replaced by whoever embeds it: left alone
        assert main(tmp_path) == 0
        monkeypatch.undo()


def test_an_interrupt_while_it_starts_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(directory: ModelDirectory, config: Config, reread: Reread) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastserve.server.run", run)
    assert main(write_model(tmp_path, MODEL)) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_the_server_refuses_is_one_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    def run(directory: ModelDirectory, config: Config, reread: Reread) -> int:
        raise SetupError("no such luck")

    monkeypatch.setattr("fastserve.server.run", run)
    assert main(write_model(tmp_path, MODEL), "--log-format", log_format) == 2
    (line,) = capsys.readouterr().err.splitlines()
    if log_format == "json":
        assert json.loads(line)["message"] == "no such luck"
    else:
        assert re.fullmatch(r"[-0-9]+ [:,0-9]+ ERROR +no such luck", line)


# --- help ---


def test_help_shows_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main("--help")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("usage: fastserve DIR")
    for option in OPTIONS.values():
        assert (f"{option.flag} {option.help} " if option.off_flag else f"{option.flag} {option.metavar} ") in shown
    for default in (
        "[127.0.0.1]",
        "[8080]",
        "[100M]",
        "[8k]",
        "[75]",
        "[0.0005]",
        "[3600]",
        "[abort]",
        "[auto]",
        "[off]",
    ):
        assert default in shown


def test_a_default_that_help_shows_can_be_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "9999")
    with pytest.raises(SystemExit):
        main("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for name, option in OPTIONS.items():
        default = shown.partition(f" {option.help} [")[2].partition("]")[0]
        assert option.parse(default) == getattr(Config(), name), option.flag


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fastserve {fastserve.__version__}\n"


def test_the_parser_says_its_mistakes_instead_of_ending_the_process() -> None:
    with pytest.raises(SetupError, match="see fastserve --help"):
        make_parser().parse_args([])


# --- mistakes that are found before the server starts ---

CONFIG_YAML = "config.yaml"


@pytest.mark.parametrize(
    "argv, files, words",
    [
        ([], {}, ["required: DIR"]),
        ([""], {}, ["an argument is empty", "model directory"]),
        (["nowhere"], {}, ["nowhere: does not exist", "model directory"]),
        (["file"], {"file": ""}, ["file: is not a directory"]),
        (["."], {}, ["no config.yaml", "an empty one will do"]),
        (["."], {"config.yml": ""}, ["no config.yaml", "did you mean config.yml?", "rename"]),
        (["."], {CONFIG_YAML: "a: b: c"}, ["config.yaml:1:5: ", "mapping values"]),
        (["."], {CONFIG_YAML: "\nruntime:\n  a: 1\n"}, ["config.yaml:3: runtime.a: no such setting"]),
        (["."], {CONFIG_YAML: "runtime: {predict_concurency: 1}"}, ["did you mean predict_concurrency?"]),
        (["."], {CONFIG_YAML: "runtime:\n  predict_concurrency: two"}, ["config.yaml:2: ", "whole number", "'two'"]),
        (["."], {CONFIG_YAML: "runtime: fast"}, ["config.yaml:1: runtime takes a mapping"]),
        (["."], {CONFIG_YAML: "docker_server: {}"}, ["docker_server"]),
        ([".", "--port", "http"], {CONFIG_YAML: ""}, ["--port takes a whole number", "'http'"]),
        ([".", "--port"], {CONFIG_YAML: ""}, ["--port", "expected one argument"]),
        ([".", "--prot", "80"], {CONFIG_YAML: ""}, ["--prot: no such option", "did you mean --port?"]),
        (["--prot=80", "."], {CONFIG_YAML: ""}, ["--prot: no such option", "did you mean --port?"]),
        ([".", "--relod"], {CONFIG_YAML: ""}, ["--relod: no such option", "did you mean --reload?"]),
        ([".", "--no-relod"], {CONFIG_YAML: ""}, ["--no-relod: no such option", "did you mean --no-reload?"]),
        ([".", "--reload=on"], {CONFIG_YAML: ""}, ["--reload", "ignored explicit argument 'on'"]),
        ([".", "--concurren", "2"], {CONFIG_YAML: ""}, ["--concurren: no such", "did you mean --concurrency?"]),
        ([".", "-x"], {CONFIG_YAML: ""}, ["-x: no such option"]),
        ([".", "--workers", "4"], {CONFIG_YAML: ""}, ["--workers: no such option (one process serves one model"]),
        ([".", "--max-batch-size=8"], {CONFIG_YAML: ""}, ["--max-batch-size: no such option (it is the model's"]),
        ([".", "other"], {CONFIG_YAML: ""}, ["other: one model directory is enough"]),
    ],
)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runs: Runs,
    argv: list[str],
    files: dict[str, str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(name).write_text(content)
    assert main(*argv) == 2
    out, err = capsys.readouterr()
    assert (out, runs) == ("", [])
    assert err.startswith("fastserve: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_a_variable_that_means_nothing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTSERVE_PROT", "80")
    assert main(write_model(tmp_path, MODEL)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "FASTSERVE_PROT: no such option (did you mean FASTSERVE_PORT?)" in err


# --- the real command ---


def errors(log: str) -> list[str]:
    """The messages of level ERROR in a log of JSON lines; every line must be one."""
    lines = [json.loads(line) for line in log.splitlines()]
    return [line["message"] for line in lines if line["levelname"] == "ERROR" and "exc_info" not in line]


@pytest.mark.parametrize(
    "flags, config, words",
    [
        (["--prot", "80"], "", ["--prot", "did you mean --port?"]),
        ([], "runtime: {predict_concurrency: two}", ["config.yaml:1: runtime.predict_concurrency takes"]),
    ],
)
def test_the_real_command_tells_an_early_mistake_in_one_line(
    tmp_path: Path, flags: list[str], config: str, words: list[str]
) -> None:
    status, err = run_to_end(write_model(tmp_path, MODEL, config), *flags)
    assert status == 2
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_the_real_command_without_a_directory_to_serve(tmp_path: Path) -> None:
    status, err = run_to_end(tmp_path / "nowhere")
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("fastserve: error: ")
    assert "does not exist" in err


@pytest.mark.parametrize(
    "source, config, flags, words",
    [
        (MODEL, "model_class_filename: serve.py", [], ["serve.py: no such file"]),
        ("class Modle: pass\n", "", [], ["no class Model", "did you mean Modle?"]),
        ("class Model: pass\n", "", [], ["must have a `predict`", "def predict(self, model_input)"]),
        (MODEL, "external_package_dirs: [../nowhere]", [], ["config.yaml:1: external_package_dirs", "nowhere"]),
        (MODEL, "", ["--host", "no..host"], ["cannot listen on no..host"]),
    ],
)
def test_the_real_command_tells_a_mistake_in_the_directory_once(
    tmp_path: Path, source: str, config: str, flags: list[str], words: list[str]
) -> None:
    status, err = run_to_end(write_model(tmp_path, source, config), "--port", "0", *flags)
    assert status == 2
    assert "Traceback" not in err
    (message,) = errors(err)
    for word in words:
        assert word in message


def test_a_port_in_use_is_told_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, err = run_to_end(write_model(tmp_path, MODEL), "--port", port)
    assert status == 2
    assert "Traceback" not in err
    (message,) = errors(err)
    for word in (f"127.0.0.1:{port}", "in use", "--port"):
        assert word in message


@pytest.mark.parametrize(
    "source, last, frames",
    [
        ("import model.helper\nmodel.helper.fail()\n", "KeyError: 'gone'", ["<module>", "fail"]),
        (
            "import surely_not_installed\n",
            "ModuleNotFoundError: No module named 'surely_not_installed'",
            ["<module>"],
        ),
        (
            "class Model:\n    def __init__(self):\n        1 / 0\n",
            "ZeroDivisionError: division by zero",
            ["__init__"],
        ),
        (
            "from model.helper import fail\nclass Model:\n    def load(self):\n        fail()\n"
            "    def predict(self, x):\n        return x\n",
            "KeyError: 'gone'",
            ["load", "fail"],
        ),
        ("def f(:\n", "SyntaxError: invalid syntax", []),
        ("class Model:\n    def __init__(self):\n        raise SystemExit(3)\n", "SystemExit: 3", ["__init__"]),
    ],
)
def test_what_user_code_raises_at_start_is_shown_from_its_own_first_frame(
    tmp_path: Path, source: str, last: str, frames: list[str]
) -> None:
    write_model(tmp_path, source)
    (tmp_path / "model" / "helper.py").write_text("def fail():\n    {}['gone']\n")
    status, err = run_to_end(tmp_path, "--port", "0", env={"NUM_LOAD_RETRIES_TRUSS": "0"})
    assert status == 1
    assert errors(err) == []
    (line,) = [line for line in map(json.loads, err.splitlines()) if "exc_info" in line]
    assert line["message"] == "Exception while loading model"
    traceback = line["exc_info"]
    assert PACKAGE not in traceback
    assert "importlib" not in traceback
    assert traceback.splitlines()[-1] == last
    assert re.findall(r", in (.*)", traceback) == frames
    assert str(tmp_path / "model" / "model.py") in traceback


def test_user_code_is_shown_too_if_the_directory_was_given_with_dots(tmp_path: Path) -> None:
    write_model(tmp_path / "truss", "1 / 0\n")
    status, err = run_to_end(tmp_path / "truss" / ".." / "truss", "--port", "0")
    assert status == 1
    assert "1 / 0" in err


def test_help_of_the_real_command_is_no_mistake() -> None:
    assert run_to_end(Path("--help")) == (0, "")
    assert run_to_end(Path("--version")) == (0, "")
