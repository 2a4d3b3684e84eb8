"""Access lines on a thread of their own: in order, none lost while they are read, counted when they are not."""

from __future__ import annotations

import logging
import threading

import pytest

from fastserve import access_writer
from fastserve.access_writer import AccessWriter

PATIENCE_S = 20.0


class Sink(logging.Handler):
    """Keeps lines; while its gate is shut it is a pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.gate = threading.Event()
        self.is_waiting = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.is_waiting.set()
        assert self.gate.wait(PATIENCE_S)
        self.lines.append(record.getMessage())
        if self.lines[-1] == "broken":
            raise OSError("the pipe is gone")


def log(writer: AccessWriter, *lines: str) -> None:
    for line in lines:
        writer.handle(logging.LogRecord("fastserve.access", logging.INFO, "", 0, line, (), None))


def test_lines_are_written_in_order_and_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_writer, "FLUSH_S", PATIENCE_S)
    sink = Sink()
    sink.gate.set()
    writer = AccessWriter(sink)
    for start in range(0, 1000, 10):
        log(writer, *(str(number) for number in range(start, start + 10)))
    writer.flush()
    assert sink.lines == [str(number) for number in range(1000)]


def test_nobody_waits_for_a_reader_and_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_writer, "MOST_WAITING", 3)
    monkeypatch.setattr(access_writer, "FLUSH_S", 0.0)
    sink = Sink()
    writer = AccessWriter(sink)
    log(writer, "0")
    assert sink.is_waiting.wait(PATIENCE_S)
    log(writer, "1", "2", "3", "4", "5")
    writer.flush()  # not for ever
    monkeypatch.setattr(access_writer, "FLUSH_S", PATIENCE_S)
    sink.gate.set()
    writer.flush()
    log(writer, "6")
    writer.flush()
    assert sink.lines == ["0", "1", "2", "3", "2 lines are missing here: nobody has read what was written", "6"]


def test_a_line_that_cannot_be_written_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_writer, "FLUSH_S", PATIENCE_S)
    sink = Sink()
    sink.gate.set()
    writer = AccessWriter(sink)
    log(writer, "broken", "whole")
    writer.flush()
    assert sink.lines == ["broken", "whole"]
