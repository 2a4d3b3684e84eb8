"""Whole lives of a server: what it answers while it loads, how it ends by a signal, how when the model is wrong.

Knows neither of the two servers that are compared. Called by `record.py` (on Truss's) and `test_lives.py` (on ours).
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tests.truss.cases import MODELS, WHILE_LOADING, WRONG, Conversation, Question, post
from tests.truss.exchange import PATIENCE_S, Seen, ask, converse, wait_until_ready

# Starts a server: (model directory, environment variables) to (port, process, its log so far).
Start = Callable[
    [Path, Mapping[str, str]], AbstractContextManager[tuple[int, "subprocess.Popen[bytes]", Callable[[], str]]]
]

# What the log says once the model is there: no probe is asked, since Truss kills itself when one finds a failure.
LOADED: Final = re.compile(r"Completed model.load|ready; the model loaded")

SIGNALS: Final = ("SIGTERM", "SIGINT")


def put(port: int, question: Question) -> Seen:
    """Ask the server on `port`."""
    if isinstance(question, Conversation):
        return converse(port, question.messages, question.fields)
    return ask(port, question)


@contextlib.contextmanager
def gate() -> Iterator[tuple[Path, Path]]:
    """Two files that are not there yet: one opens the gate of `slow`, the other it makes when a predict has begun."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "gate"), Path(folder, "begun")


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    except OSError:
        return False
    return True


def while_loading(start: Start) -> dict[str, Seen]:
    """The answers to WHILE_LOADING."""
    with gate() as (opened, _), start(MODELS / "slow", {"GATE": str(opened)}) as (port, _, log):
        wait_for(lambda: is_listening(port))
        answers = {name: put(port, question) for name, question in WHILE_LOADING.items()}
        opened.touch()
        assert wait_until_ready(port), log()
    return answers


def ended_by(start: Start, name: str) -> dict[str, Any]:
    """What becomes of a predict in flight when the signal comes, and the exit status."""
    with gate() as (opened, begun), start(MODELS / "slow", {"GATE": "/"}) as (port, process, log):
        assert wait_until_ready(port), log()
        answers: list[Seen] = []
        question = post({"gate": str(opened), "begun": str(begun)})
        asking = threading.Thread(target=lambda: answers.append(ask(port, question)))
        asking.start()
        wait_for(begun.exists)
        process.send_signal(signal.Signals[name])
        wait_for(lambda: not is_listening(port))
        opened.touch()
        asking.join()
        return {"in flight": answers[0], "exit": process.wait(PATIENCE_S)}


def wrong_model(start: Start, name: str) -> dict[str, Any]:
    """The exit status with one of WRONG, and what the log says of the error; or that it is loaded all the same."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copytree(MODELS / "wrong", Path(folder, "model")))
        (model / "config.yaml").write_text(f"model_class_filename: {name}.py\n")
        with start(model, {"NUM_LOAD_RETRIES_TRUSS": "0"}) as (_, process, log):
            wait_for(lambda: process.poll() is not None or LOADED.search(log()) is not None)
            if process.poll() is None:
                return {"is_loaded": True}
            said = [json.loads(line) for line in log().splitlines() if '"ERROR"' in line][-1]
    return {"exit": process.returncode, "error": said.get("exc_info", said["message"]).splitlines()[-1].strip()}


def lives(start: Start) -> dict[str, Any]:
    """All of them."""
    return {
        "loading": while_loading(start),
        "signals": {name: ended_by(start, name) for name in SIGNALS},
        "wrong": {name: wrong_model(start, name) for name in WRONG},
    }
