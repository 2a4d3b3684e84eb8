"""Log lines as Truss writes them, and tracebacks that begin with the user's own code."""

from __future__ import annotations

import enum
import io
import json
import logging
import logging.config
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastserve.logs import REQUEST_IDS, JsonFormatter, RequestIds, set_up_logs, trimmed
from tests.support.logs import kept_logs


class Answer(enum.Enum):
    YES = 1


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DISABLE_JSON_LOGGING", raising=False)
    with kept_logs():
        yield


def logged(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[logging.Logger], None], log_format: str = "json", **more: Any
) -> str:
    """What `write` makes of stderr."""
    stderr: io.StringIO = more.get("stderr") or io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    set_up_logs(more.get("level", "info"), log_format)
    write(logging.getLogger("some.model"))
    return stderr.getvalue()


# --- lines ---


def test_a_json_line_has_truss_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.loads(logged(monkeypatch, lambda log: log.warning("%d of %s", 3, "caf\u00e9s")))
    assert set(line) == {"asctime", "levelname", "message"}
    assert (line["levelname"], line["message"]) == ("WARNING", "3 of caf\u00e9s")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", line["asctime"])


def test_a_traceback_is_one_more_key_of_the_same_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(log: logging.Logger) -> None:
        try:
            raise KeyError("gone")
        except KeyError:
            log.exception("first\nsecond")

    text = logged(monkeypatch, write)
    assert text.count("\n") == 1
    line = json.loads(text)
    assert set(line) == {"asctime", "levelname", "message", "exc_info"}
    assert line["message"] == "first\nsecond"
    assert line["exc_info"].startswith("Traceback (most recent call last):\n")
    assert line["exc_info"].endswith("\nKeyError: 'gone'")


def test_exc_info_without_an_exception_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exc_info" not in json.loads(logged(monkeypatch, lambda log: log.error("x", exc_info=True)))


def test_extra_fields_a_dict_and_a_stack_become_keys_as_by_truss(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(log: logging.Logger) -> None:
        log.info("a", extra={"user": 1, "when": Answer.YES, "_private": 2})
        log.info({"b": {"c": 2}, "levelname": "mine"})
        log.info({})
        log.info("d", stack_info=True)

    lines = [json.loads(line) for line in logged(monkeypatch, write).splitlines()]
    for line in lines:
        assert line.pop("asctime")
    assert lines[:3] == [
        {"levelname": "INFO", "message": "a", "user": 1, "when": "Answer.YES"},
        {"levelname": "mine", "message": "", "b": {"c": 2}},
        {"levelname": "INFO", "message": ""},
    ]
    assert set(lines[3]) == {"levelname", "message", "stack_info"}
    assert lines[3]["stack_info"].startswith("Stack (most recent call last):")


PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_request_s_ids_and_its_trace_are_on_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    REQUEST_IDS.set((b"mine", b"chain", 1, {b"traceparent": PARENT}))
    line = json.loads(logged(monkeypatch, lambda log: log.info("a")))
    trace = PARENT[3:35].decode()
    assert (line["request_id"], line["chain_request_id"], line["trace_id"]) == ("mine", "chain", trace)
    assert logged(monkeypatch, lambda log: log.info("a"), "text").endswith(f"INFO    a [mine {trace}]\n")
    REQUEST_IDS.set((b"mine", None, 1, {}))
    assert "trace_id" not in json.loads(logged(monkeypatch, lambda log: log.info("a")))
    assert logged(monkeypatch, lambda log: log.info("a"), "text").endswith("INFO    a [mine]\n")


@pytest.mark.parametrize("ids", [None, (b"mine", None, 1, {b"traceparent": PARENT})])
def test_a_trace_that_the_model_tells_itself_stands(monkeypatch: pytest.MonkeyPatch, ids: RequestIds | None) -> None:
    REQUEST_IDS.set(ids)
    line = json.loads(logged(monkeypatch, lambda log: log.info("a", extra={"trace_id": "its own"})))
    assert line["trace_id"] == "its own"


# --- the server's own lines ---


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("a broken handler")


def fail(*arguments: Any, **more: Any) -> Any:
    raise RuntimeError("a broken factory or filter")


def break_root() -> None:
    logging.getLogger().handlers[:] = [BrokenHandler()]


def break_own() -> None:
    logging.getLogger("fastserve").handlers.append(BrokenHandler())


def break_factory() -> None:
    logging.setLogRecordFactory(fail)


def disable_all() -> None:
    logging.config.dictConfig({"version": 1})


def disable_levels() -> None:
    logging.disable(logging.CRITICAL)


@pytest.mark.parametrize("harm", [break_root, break_own, break_factory, disable_all, disable_levels])
def test_whatever_a_model_does_the_server_s_own_lines_come_out_and_never_raise(
    monkeypatch: pytest.MonkeyPatch, harm: Callable[[], None]
) -> None:
    own = logging.getLogger("fastserve")

    def write(log: logging.Logger) -> None:
        harm()
        own.info("%s here", "still")
        assert not own.disabled

    factory, disabled = logging.getLogRecordFactory(), {}
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            disabled[name] = logger.disabled
    try:
        line = json.loads(logged(monkeypatch, write))
    finally:
        logging.setLogRecordFactory(factory)
        logging.disable(logging.NOTSET)
        for name, was in disabled.items():
            logging.getLogger(name).disabled = was
    assert line["message"] == "still here"


def test_a_filter_that_raises_costs_the_line_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    own = logging.getLogger("fastserve")

    def write(log: logging.Logger) -> None:
        own.addFilter(fail)
        try:
            own.info("lost")
        finally:
            own.removeFilter(fail)
        own.info("kept")

    assert json.loads(logged(monkeypatch, write))["message"] == "kept"


def test_half_a_surrogate_pair_can_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(logged(monkeypatch, lambda log: log.info("\ud800")))["message"] == "\ud800"


def test_a_text_line_is_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    text = logged(monkeypatch, lambda log: log.info("hello"), "text")
    assert re.fullmatch(r"[-0-9]+ [:,0-9]+ INFO +hello\n", text)


@pytest.mark.parametrize("level, shown", [("debug", 3), ("info", 2), ("critical", 0)])
def test_the_level_holds_for_what_a_model_logs_too(monkeypatch: pytest.MonkeyPatch, level: str, shown: int) -> None:
    def write(log: logging.Logger) -> None:
        log.debug("x")
        log.info("x")
        log.error("x")

    assert logged(monkeypatch, write, level=level).count("\n") == shown


def test_setting_up_twice_does_not_double_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(log: logging.Logger) -> None:
        set_up_logs("info", "text")
        log.info("once")

    assert logged(monkeypatch, write).count("once") == 1


@pytest.mark.parametrize(
    "log_format, disabled, screen, is_json",
    [
        ("auto", None, False, True),
        ("auto", "", False, True),
        ("auto", "1", False, False),
        ("auto", None, True, False),
        ("json", "1", True, True),
        ("text", None, False, False),
    ],
)
def test_auto_is_text_on_a_terminal_or_if_truss_switch_says_so(
    monkeypatch: pytest.MonkeyPatch, log_format: str, disabled: str | None, screen: bool, is_json: bool
) -> None:
    if disabled is not None:
        monkeypatch.setenv("DISABLE_JSON_LOGGING", disabled)
    stderr = Screen() if screen else io.StringIO()
    text = logged(monkeypatch, lambda log: log.info("hello"), log_format, stderr=stderr)
    assert text.startswith("{") == is_json


def test_the_formatter_leaves_the_record_to_other_handlers() -> None:
    record = logging.LogRecord("x", logging.INFO, "file", 1, "%s", ("a",), None)
    JsonFormatter().format(record)
    assert (record.msg, record.args) == ("%s", ("a",))


# --- trimmed tracebacks ---

SERVER = "/opt/server/run.py"
MODEL = "/models/truss/model/model.py"
LIBRARY = "/usr/lib/library.py"


def code(file: str, source: str, **names: Any) -> Callable[..., Any]:
    """The function `f` of `source`, which seems to stand in `file`."""
    exec(compile(source, file, "exec"), names)
    function: Callable[..., Any] = names["f"]
    return function


def raised(function: Callable[..., Any]) -> BaseException:
    """What `function` raises, called by the server."""
    try:
        code(SERVER, "def f(g):\n    g()", g=function)(function)
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError


def files(error: BaseException | None) -> list[str]:
    """The files of the frames of `error`, this one's left out."""
    assert error is not None
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]


library = code(LIBRARY, "def f():\n    1 / 0")
fails = code(MODEL, "def f():\n    library()", library=library)


@pytest.mark.parametrize(
    "directory, left",
    [
        ("/models/truss", [MODEL, LIBRARY]),
        ("/models/truss/", [MODEL, LIBRARY]),
        ("/models", [MODEL, LIBRARY]),
        ("/opt", [SERVER, MODEL, LIBRARY]),
        ("/", [SERVER, MODEL, LIBRARY]),
    ],
)
def test_a_traceback_begins_at_the_first_frame_in_the_directory_and_keeps_the_rest(
    directory: str, left: list[str]
) -> None:
    error = raised(fails)
    assert files(error) == [SERVER, MODEL, LIBRARY]
    assert trimmed(error, directory) is error
    assert files(error) == left


@pytest.mark.parametrize("directory", ["/models/tr", "/models/truss2", "/models/truss/model/model.py/x"])
def test_a_traceback_without_a_frame_in_the_directory_is_dropped(directory: str) -> None:
    error = trimmed(raised(fails), directory)
    assert error.__traceback__ is None
    assert traceback.format_exception(error) == ["ZeroDivisionError: division by zero\n"]


def test_frames_of_the_server_further_in_are_the_user_s_own_calls() -> None:
    calls_back = code(MODEL, "def f():\n    back()", back=code(SERVER, "def f():\n    model()", model=fails))
    assert files(trimmed(raised(calls_back), "/models/truss")) == [MODEL, SERVER, MODEL, LIBRARY]


@pytest.mark.parametrize("how, attribute", [(" from error", "__cause__"), ("", "__context__")])
def test_causes_and_contexts_are_trimmed_too(how: str, attribute: str) -> None:
    source = (
        f"def f():\n    try:\n        model()\n    except ZeroDivisionError as error:\n        raise KeyError{how}"
    )
    error = raised(code(SERVER, source, model=fails))
    before = getattr(error, attribute)
    assert files(before) == [SERVER, MODEL, LIBRARY]
    trimmed(error, "/models/truss")
    assert files(error) == []
    assert files(before) == [MODEL, LIBRARY]


def test_errors_that_are_each_other_s_cause_are_trimmed_once() -> None:
    first, second = raised(fails), raised(fails)
    first.__cause__, second.__cause__ = second, first
    trimmed(first, "/models/truss")
    assert files(first) == files(second) == [MODEL, LIBRARY]


def test_a_syntax_error_still_names_its_line() -> None:
    def compiles() -> None:
        compile("def f(:\n", MODEL, "exec")

    shown = "".join(traceback.format_exception(trimmed(raised(compiles), "/models/truss")))
    assert f'File "{MODEL}", line 1' in shown
    assert "Traceback" not in shown
