"""Traces on the real process: what the model is told, what log lines say, which spans reach a collector."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from pathlib import Path

import pytest

from tests.support.collector import collecting
from tests.support.process import Server, serving, write_model

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FIELDS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "vendor=1"}

# Says what it is told of the trace, where plain code has it: on a worker thread, or on the loop.
PLAIN = """
import logging, sys
import fastserve
class Model:
    def predict(self, payload):
        logging.getLogger("mine").info("at work")
        if payload == "fail":
            raise ValueError("as asked")
        return [fastserve.trace_context(), "opentelemetry" in sys.modules]
"""
COROUTINE = PLAIN.replace("def predict", "async def predict")
SPANNING = """
import opentelemetry.trace
import fastserve
tracer = opentelemetry.trace.get_tracer("mine")
class Model:
    {define}
        with tracer.start_as_current_span("inner"):
            {give} fastserve.trace_context().get("traceparent", "")
"""
KINDS = {
    "plain": ("def predict(self, payload):", "return"),
    "coroutine": ("async def predict(self, payload):", "return"),
    "generator": ("def predict(self, payload):", "yield"),
    "async generator": ("async def predict(self, payload):", "yield"),
}


def ask(server: Server, payload: object, fields: dict[str, str]) -> tuple[int, bytes]:
    return server.request("POST", "/predict", json.dumps(payload).encode(), fields)


def lines_of(server: Server, message: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in server.log.splitlines()]
    return [line for line in lines if line["message"].startswith(message)]


@pytest.mark.parametrize("source", [PLAIN, COROUTINE])
def test_traced_requests_are_known_to_all_code_and_log_lines_if_asked_for(source: str, tmp_path: Path) -> None:
    with serving(write_model(tmp_path, source), "--request-ids", "traced") as server:
        assert json.loads(ask(server, 1, FIELDS)[1]) == [FIELDS, False]
        assert json.loads(ask(server, 1, {})[1]) == [{}, False]
        assert json.loads(ask(server, 1, {"traceparent": "00-nonsense"})[1]) == [{}, False]
        server.stop()
        traced, untraced, nonsense = lines_of(server, "at work")
        assert traced["trace_id"] == TRACE
        assert traced["request_id"]
        assert not untraced.keys() & {"trace_id", "request_id"}
        assert nonsense.keys() & {"trace_id", "request_id"} == {"request_id"}


@pytest.mark.parametrize("source", [PLAIN, COROUTINE])
def test_they_are_to_a_model_that_imports_what_tells_it(source: str, tmp_path: Path) -> None:
    source = "from fastserve import trace_context\n" + source
    with serving(write_model(tmp_path, source)) as server:
        assert json.loads(ask(server, 1, FIELDS)[1]) == [FIELDS, False]
        assert json.loads(ask(server, 1, {})[1]) == [{}, False]
        server.stop()
        traced, untraced = lines_of(server, "at work")
        assert traced["trace_id"] == TRACE
        assert not untraced.keys() & {"trace_id", "request_id"}


def test_they_are_once_it_has_and_the_same_head_is_looked_at_anew(tmp_path: Path) -> None:
    silent = PLAIN.replace('logging.getLogger("mine").info("at work")', "pass")  # or nobody would read its lines
    connection = http.client.HTTPConnection("127.0.0.1", 0, timeout=30)
    with serving(write_model(tmp_path, silent)) as server, contextlib.closing(connection):
        connection.port = server.port
        answers = []
        deadline = time.monotonic() + 30
        while [FIELDS, False] not in answers:
            assert time.monotonic() < deadline
            connection.request("POST", "/predict", "1", FIELDS)
            answers.append(json.loads(connection.getresponse().read()))
        assert answers[0] == [{}, False]


SILENT = PLAIN.replace("fastserve.trace_context()", "{}")


def test_log_lines_have_them_if_the_request_has_an_id_or_fails(tmp_path: Path) -> None:
    with serving(write_model(tmp_path, SILENT)) as server:
        assert ask(server, 1, FIELDS)[0] == 200
        assert ask(server, 1, {**FIELDS, "X-Request-ID": "mine"})[0] == 200
        assert ask(server, "fail", FIELDS)[0] == 500
        server.stop()
        unnamed, named, failing = lines_of(server, "at work")
        assert [line.get("trace_id") for line in (unnamed, named, failing)] == [None, TRACE, None]
        (failure,) = lines_of(server, "Internal Server Error")
        assert failure["trace_id"] == TRACE


@pytest.mark.parametrize("kind", KINDS)
def test_spans_go_from_the_client_s_to_the_model_s_own(kind: str, tmp_path: Path) -> None:
    define, give = KINDS[kind]
    directory = write_model(tmp_path, SPANNING.format(define=define, give=give), "model_name: sorter")
    with collecting() as collector, serving(directory, env=collector.variables) as server:
        status, content = ask(server, 1, FIELDS)
        assert status == 200
        assert server.request("GET", "/readyz")[0] == 200
        assert server.stop() == 0  # which has the rest exported
    assert collector.spans.keys() == {"POST /predict", "predict", "inner"}
    outer, predict, inner = (collector.spans[name] for name in ("POST /predict", "predict", "inner"))
    assert {span.trace_id.hex() for span in (outer, predict, inner)} == {TRACE}
    assert outer.parent_span_id.hex() == "00f067aa0ba902b7"
    assert predict.parent_span_id == outer.span_id
    assert inner.parent_span_id == predict.span_id
    assert f"00-{TRACE}-{outer.span_id.hex()}-01" in content.decode()
    assert outer.start_time_unix_nano <= predict.start_time_unix_nano
    assert predict.end_time_unix_nano <= outer.end_time_unix_nano
    assert collector.services == {"sorter"}


def test_without_a_traceparent_log_lines_have_the_trace_that_begins_here(tmp_path: Path) -> None:
    with collecting() as collector, serving(write_model(tmp_path, PLAIN), env=collector.variables) as server:
        assert ask(server, "fail", {})[0] == 500
        assert server.stop() == 0
    (line,), (failure,) = lines_of(server, "at work"), lines_of(server, "Internal Server Error")
    span = collector.spans["POST /predict"]
    assert line["trace_id"] == failure["trace_id"] == span.trace_id.hex()
    assert collector.spans["predict"].events[0].name == "exception"


def test_a_model_that_sets_up_its_own_provider_keeps_it(tmp_path: Path) -> None:
    source = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
class Model:
    def load(self):
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    def predict(self, payload):
        return payload
"""
    with collecting() as collector, serving(write_model(tmp_path, source), env=collector.variables) as server:
        assert server.predict(1) == 1
        assert server.stop() == 0
        assert '"name": "POST /v1/models/{model}:predict"' in server.log
        assert "Overriding" not in server.log
    assert collector.spans == {}


def test_a_collector_that_is_not_there_costs_no_answer(tmp_path: Path) -> None:
    gone = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with serving(write_model(tmp_path, PLAIN), env=gone) as server:
        assert ask(server, 1, {})[0] == 200
        assert server.stop() == 0
