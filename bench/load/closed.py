"""Closed loop: wrk holds so many connections, each with one request at a time, and counts what comes back.

Leaves cost and memory to bench/rounds.py, and whether an answer is right to the questions it asks before and after.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from bench.load.quantiles import Figures
from bench.questions import Question
from bench.server import LOAD_CORE, ContestantError, Server, TooSlowError

SCRIPT: Final = Path(__file__).with_name("closed.lua")
PATIENCE_S: Final = 30  # for one answer: 1,024 connections wait long for a server of 50 requests a second


@dataclass(frozen=True)
class Closed:
    """connections: as many requests at a time. heads: what closed.lua is to make of the header sections."""

    connections: int
    heads: tuple[str, ...] = ()
    is_all_requests: ClassVar[bool] = True
    checks_answers: ClassVar[bool] = False

    def drive(self, server: Server, question: Question, seconds: int) -> Figures:
        """Raises TooSlowError if nothing came back."""
        with tempfile.NamedTemporaryFile() as content:
            content.write(question.content(server.contestant.is_wrapped))
            content.flush()
            arguments = [content.name, question.content_type, *self.heads]
            if question.is_timed:
                arguments.append("timed")
            measured = wrk(server.port, server.path, self.connections, seconds, arguments)
        return self.figures(measured)

    def figures(self, measured: dict[str, float]) -> Figures:
        """Of what closed.lua printed; a request that was refused is none. Raises TooSlowError if none is left."""
        right = measured["requests"] - measured["refused"]
        if right <= 0:
            raise TooSlowError(f"no answer in {measured['seconds']:.0f} s at {self.connections} connections")
        figures = {name: measured[name] for name in ("seconds", "p50_us", "p99_us", "p999_us")}
        figures["requests"] = right
        figures["answers"] = measured["requests"]  # refusals too: the quantiles are of all of them
        figures["rps"] = right / measured["seconds"]
        figures["errors"] = measured["lost"] + measured["refused"] + measured["timeouts"]
        if measured["predict_us"]:
            figures["predict_us"] = measured["predict_us"]
            figures["between_us"] = measured["between_us"]
        return figures


def wrk(port: int, path: str, connections: int, seconds: int, arguments: Sequence[str]) -> dict[str, float]:
    """What closed.lua, given `arguments`, prints after so many seconds. Raises ContestantError if wrk fails."""
    pinned = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    where = ["--timeout", f"{PATIENCE_S}s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run([*pinned, *where, "--", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ContestantError(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
