"""When there are spans at all, and who exports them: by OpenTelemetry's own variables."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import pytest

from fastserve import telemetry
from fastserve.telemetry import find_telemetry, wanted_exporters

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, []),
        (ENDPOINT, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp,"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": " "}, []),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, []),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, []),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, ["otlp"]),
    ],
)
def test_spans_are_only_what_is_asked_for(environ: dict[str, str], names: list[str]) -> None:
    assert wanted_exporters(environ) == names
    assert (find_telemetry(environ, "m") is not None) == bool(names)


def test_without_the_sdk_it_is_said_and_there_are_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)  # an import of it fails
    assert find_telemetry(ENDPOINT, "m") is None
    assert "pip install 'fastserve[otel]'" in caplog.text


def test_an_exporter_that_is_not_installed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert find_telemetry({"OTEL_TRACES_EXPORTER": "pigeon"}, "m") is None
    assert "no exporter pigeon is installed" in caplog.text


class Entry:
    """An entry point of OpenTelemetry's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> str:
        return self.name


@pytest.mark.parametrize(
    ("installed", "variables", "found"),
    [
        (["otlp_proto_http", "otlp_proto_grpc"], {}, "otlp_proto_http"),
        (["otlp_proto_grpc"], {}, "otlp_proto_grpc"),
        (["otlp_proto_http", "otlp_proto_grpc"], {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        (
            ["otlp_proto_http", "otlp_proto_grpc"],
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "otlp_proto_http",
        ),
        (["otlp_proto_http"], {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
    ],
)
def test_otlp_is_the_protocol_that_is_said_or_installed(
    installed: list[str], variables: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry_points(group: str, name: str) -> list[Any]:
        assert group == "opentelemetry_traces_exporter"
        return [Entry(name)] if name in installed else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    loaded: Any = telemetry._load_exporter("otlp", variables)
    assert loaded == found


def test_an_exporter_that_refuses_its_variables_is_said_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        def __init__(self) -> None:
            raise ValueError("no such compression")

    telemetry.Telemetry([Refusing], "m").provide()
    assert "no such compression" in caplog.text
