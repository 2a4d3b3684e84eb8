"""What only Truss's platform does is refused at start, with its line; what a model may do without is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastserve.config import Config
from fastserve.errors import SetupError
from fastserve.model import refusals
from fastserve.model.directory import ModelDirectory, read_directory
from fastserve.model.refusals import MANIFESTS, check_supported, warn_of_ignored


def read(path: Path, config: str) -> ModelDirectory:
    (path / "config.yaml").write_text(config)
    return read_directory(path)


def check(path: Path, config: str) -> None:
    check_supported(read(path, config), Config(manifest_root=str(path / "mounts")))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("model_name: x\ndocker_server: {start_command: serve}", r":2: docker_server: .*leave docker_server out"),
        ("trt_llm: {build: {}}", r":1: trt_llm: .*write .*/model/model\.py with a class Model .*leave trt_llm out"),
        (
            "bis_llm: {}\nmodel_class_name: X\nmodel_class_filename: y.py",
            r":1: bis_llm: .*/model/y\.py with a class X",
        ),
        ("runtime:\n  transport:\n    kind: grpc", r":3: runtime\.transport\.kind: grpc .*http or websocket"),
        ("runtime: {transport: {kind: websockets}}", r"runtime\.transport\.kind takes .*did you mean websocket\?"),
        ("runtime: {transport: {kind: [1]}}", r"runtime\.transport\.kind takes one of http, websocket, not \[1\]"),
        ("runtime: {transport: http}", r"runtime\.transport takes a mapping .*not 'http'"),
        (
            "runtime:\n  transport:\n    kind: websocket\n    ping_interval_seconds: -1",
            r":4: runtime\.transport\.ping_interval_seconds takes a number of seconds from 0 on, or null, not -1",
        ),
        ("runtime: {transport: {ping_timeout_seconds: '5'}}", r"ping_timeout_seconds takes .* not '5'"),
        ("runtime: {transport: {ping_timeout_seconds: true}}", r"ping_timeout_seconds takes .* not True"),
        (
            "environment_variables:\n  A: 1\n  FASTSERVE_API_KEYS: hf_abc",
            r":3: environment_variables\.FASTSERVE_API_KEYS: .*the server's own environment$",
        ),
        ("runtime: {transport: {ping_timeout_seconds: .nan}}", r"ping_timeout_seconds takes .* not nan"),
    ],
)
def test_what_cannot_be_done_here_is_refused_by_its_key(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(SetupError, match=r"config\.yaml.*" + words):
        check(tmp_path, config)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "runtime: {transport: {kind: http}}",
        "runtime: {transport: {}}",
        "runtime: {transport: {kind: websocket, ping_interval_seconds: 0, ping_timeout_seconds: 2.5}}",
        "runtime: {transport: {kind: websocket, ping_interval_seconds: null}}",
        "runtime: {is_websocket_endpoint: true}",
    ],
)
def test_everything_else_passes_in_silence(tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture) -> None:
    check(tmp_path, config)
    warn_of_ignored(read(tmp_path, config))
    assert caplog.records == []


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_of_weights_is_refused_since_nothing_would_fetch_them(tmp_path: Path, name: str) -> None:
    manifest = tmp_path / "mounts" / name
    manifest.parent.mkdir(parents=True)
    check(tmp_path, "")
    manifest.touch()
    with pytest.raises(SetupError) as refused:
        check(tmp_path, "")
    assert str(refused.value).startswith(f"{manifest}: the weights ")


def test_a_mount_that_this_process_may_not_look_into_has_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "exists", refuse)
    refusals._check_manifest(tmp_path)


@pytest.mark.parametrize("key", ["trt_llm", "bis_llm"])
def test_an_engine_beside_a_model_file_is_only_warned_of(
    tmp_path: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").touch()
    check(tmp_path, f"{key}: {{}}")
    warn_of_ignored(read(tmp_path, f"{key}: {{}}"))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"config.yaml:1: {key}: Truss's engine is not part of this server" in warning


@pytest.mark.parametrize(
    "config",
    ["external_data: [{url: x, local_data_path: y}]", "model_cache: [{repo_id: a}]", "weights: [{source: b}]"],
)
def test_what_would_be_downloaded_elsewhere_is_warned_of(
    tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(tmp_path, config)
    warn_of_ignored(read(tmp_path, config))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"config.yaml:1: {config.partition(':')[0]}: nothing is downloaded here" in warning
