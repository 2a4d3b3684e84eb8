"""What README.md says, held against the thing itself: commands, flags, defaults, routes, code."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastserve
from fastserve.cli import make_parser
from fastserve.config import OPTIONS, Config
from tests.support.process import Server, serving, write_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

SIZES = {"KiB": 1024, "MiB": 1024 * 1024}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with serving(ROOT / "bench" / "models" / "echo") as server:
        yield server


def test_every_flag_it_names_exists_and_every_limit_it_lists_has_that_default() -> None:
    known = {option.flag for option in OPTIONS.values()} | {"--help", "--no-deps", "--check", "--minutes"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known
    by_flag = {option.flag: name for name, option in OPTIONS.items()}
    rows = [
        [cell.strip() for cell in line.split("|")[2:4]]
        for line in README.split("### Limits")[1].partition("\n##")[0].splitlines()
        if line.startswith("|") and "`--" in line
    ]
    assert len(rows) == 12
    for flags, defaults in rows:
        for flag, default in zip(re.findall(r"--[a-z-]+", flags), defaults.split(", "), strict=True):
            number, _, unit = default.partition(" ")
            assert getattr(Config(), by_flag[flag]) == float(number) * SIZES.get(unit.removesuffix("/s"), 1), flag


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
    source, *_ = blocks("python")
    directory = write_model(tmp_path, source, "model_metadata: {greeting: Good day}")
    with serving(directory) as server:
        assert server.predict({"name": "you"}) == {"text": "Good day, you"}


def test_the_model_with_a_request_works(tmp_path: Path) -> None:
    _, source, _ = blocks("python")
    with serving(write_model(tmp_path, source)) as server:
        assert server.request("POST", "/predict", b"1") == (401, b'{"error":"who are you?"}')
        assert server.request("POST", "/predict", b"1", {"Authorization": "x"}) == (200, b'{"pages":3}')


def test_the_stream_it_shows_works(tmp_path: Path) -> None:
    *_, source = blocks("python")
    with serving(write_model(tmp_path, source)) as server:
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
