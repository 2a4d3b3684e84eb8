"""What README.md says, held against the thing itself: commands, flags, defaults, routes, code."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastserve
from fastserve.cli import make_parser
from fastserve.config import KEYS_VARIABLE, OPTIONS, TRUSS_RUNTIME_KEYS, Config
from tests.server.test_prometheus import ask_full
from tests.server.test_prometheus import full as full
from tests.server.test_rolling import DELAY_S, SERVICES
from tests.support.process import Server, serving, write_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

SIZES = {"KiB": 1024, "MiB": 1024 * 1024}
# Of other commands, and the one that it says is not there.
FLAGS_OF_OTHERS = {"--help", "--no-deps", "--check", "--minutes", "--debug", "--workers"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def model_with(words: str) -> str:
    """The one model it shows that has `words` in it."""
    (source,) = [block for block in blocks("python") if words in block]
    return source


def section(title: str) -> str:
    return README.split(f"### {title}\n")[1].partition("\n##")[0]


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with serving(ROOT / "bench" / "models" / "echo") as server:
        yield server


def test_every_flag_it_names_exists_and_every_limit_it_lists_has_that_default() -> None:
    ours = {option.flag for option in OPTIONS.values()}
    assert not ours & FLAGS_OF_OTHERS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= ours | FLAGS_OF_OTHERS
    by_flag = {option.flag: name for name, option in OPTIONS.items()}
    rows = [
        [cell.strip() for cell in line.split("|")[2:4]]
        for line in section("Limits").splitlines()
        if line.startswith("|") and "`--" in line
    ]
    assert len(rows) == 12
    for flags, defaults in rows:
        for flag, default in zip(re.findall(r"--[a-z-]+", flags), defaults.split(", "), strict=True):
            number, _, unit = default.partition(" ")
            assert getattr(Config(), by_flag[flag]) == float(number) * SIZES.get(unit.removesuffix("/s"), 1), flag


def test_every_setting_and_variable_it_names_is_known() -> None:
    settings = set(re.findall(r"\bruntime\.(\w+)", README))
    assert settings <= TRUSS_RUNTIME_KEYS | {option.yaml for option in OPTIONS.values()}
    listed = README.split("and under `runtime`:")[1].partition("\n\n")[0]
    assert settings <= set(re.findall(r"`(\w+)`", listed))
    variables = {option.variable for option in OPTIONS.values()} | {KEYS_VARIABLE}
    assert set(re.findall(r"\bFASTSERVE_[A-Z_]+[A-Z]\b", README)) <= variables


def test_every_metric_it_names_is_told_and_no_other(full: Server) -> None:
    page = ask_full(full, "GET", "/metrics")[1].decode()
    named = re.findall(r"`(fastserve_\w+)(?:{(.*?)})?`", section("Metrics"))
    told = set(re.findall(r"^# TYPE (fastserve_\w+) ", page, re.MULTILINE))
    assert sorted(name for name, _ in named) == sorted(told)
    assert set(re.findall(r"`(fastserve_\w+)", README)) <= told
    for name, labels in named:
        for label in filter(None, labels.split(",")):
            assert re.search(rf'^{name}{{.*\b{label}="', page, re.MULTILINE), (name, label)


def test_an_answer_tells_where_its_time_went_as_it_is_shown(echo: Server) -> None:
    (field, shown) = re.findall(r"`(Server-Timing): (.*?)`", README)[0]
    connection = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=30)
    connection.request("POST", "/predict", b"1", {"X-Server-Timing": "1"})
    told = connection.getresponse().getheader(field, "")
    connection.close()
    assert re.sub(r"[\d.]+", "N", told) == re.sub(r"[\d.]+", "N", shown)


def test_the_proxies_settings_are_those_that_are_tested() -> None:
    told = section("Rolling restarts").partition("Behind HAProxy")[2].split("`")[1::2]
    tested = " ".join(SERVICES.values()) + f" --drain-delay {DELAY_S:g}"
    assert len(told) == 5
    assert [setting for setting in told if setting not in tested] == []


def test_every_route_it_lists_answers(echo: Server) -> None:
    predict, live, ready = (
        re.findall(r"`(?:GET |POST )?(/[^` ]*|:predict_binary)`", line)
        for line in README.splitlines()
        if line.startswith(("| predict |", "| liveness", "| readiness"))
    )
    assert (len(predict), len(live), len(ready)) == (4, 4, 7)
    for path in predict:
        where = f"/v1/models/any{path}" if path.startswith(":") else path
        assert echo.request("POST", where, b"1") == (200, b'{"echo":1}')
    for path in live:
        assert echo.request("GET", path) == (200, b"true")
    for path in ready:
        assert echo.request("GET", path) == (200, b"{}")


def test_the_curl_command_prints_what_it_shows(echo: Server) -> None:
    (shown,) = [block for block in blocks("console") if block.startswith("$ curl")]
    command, printed = shown.removeprefix("$ ").strip().split("\n")
    assert "127.0.0.1:8080" in command
    command = command.replace("8080", str(echo.port))
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == printed


def test_the_first_model_it_shows_works(tmp_path: Path) -> None:
    directory = write_model(tmp_path, model_with("greeting"), "model_metadata: {greeting: Good day}")
    with serving(directory) as server:
        assert server.predict({"name": "you"}) == {"text": "Good day, you"}


def test_the_model_with_a_request_works(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, model_with("watch_disconnect"))) as server:
        assert server.request("POST", "/predict", b"1") == (401, b'{"error":"who are you?"}')
        assert server.request("POST", "/predict", b"1", {"Authorization": "x"}) == (200, b'{"pages":3}')


def test_the_model_with_batches_works(tmp_path: Path) -> None:
    (config,) = blocks("yaml")
    directory = write_model(tmp_path, model_with("model_inputs"), config)
    with serving(directory) as server, ThreadPoolExecutor(8) as clients:
        answers = clients.map(server.predict, ["x" * length for length in range(32)])
        assert list(answers) == [{"length": length} for length in range(32)]


def test_the_stream_it_shows_works(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, model_with("yield"))) as server:
        assert server.request("POST", "/predict", json.dumps({"text": "a b c"}).encode()) == (200, b"a b c ")


def test_the_paths_it_names_exist() -> None:
    for path in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m (bench\.[a-z.]+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_the_version_is_told() -> None:
    assert fastserve.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert make_parser().prog == "fastserve"


def test_the_gate_runs_the_test_command_that_is_given_here() -> None:
    (setup,) = [block for block in blocks("console") if "[dev]" in block]
    command = setup.strip().rpartition("&& .venv/bin/")[2]
    assert command == "python -m pytest"
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\n" + command)
