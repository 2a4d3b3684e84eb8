"""One running contestant: started on its own core, asked until it answers rightly, frozen while others have a turn.

Leaves what is asked to bench/questions.py and what it costs to bench/measure.py. Called by bench/rounds.py, and by
the loads, which want its port and its figures.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench import measure
from bench.contestants.field import HERE, Contestant, Job
from bench.environments import CACHE
from bench.questions import Question

SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
READY_S: Final = 120.0  # Ray's 16 replicas are 16 processes that start on one core
ANSWER_S: Final = 60.0
END_S: Final = 10.0
ROOM_S: Final = 5.0  # for what a load has left at work to be done
REFUSALS: Final = frozenset({409, 429, 503})  # Cog's, and the usual ones


class ContestantError(Exception):
    """A contestant that did not start, answer rightly or stay. Its text is the reason, for the report."""


class TooSlowError(ContestantError):
    """No answer came within the time of a round; none of them was wrong."""


class RefusedError(ContestantError):
    """It says that it has no room for a request now."""


class Server:
    """A contestant at one piece of work. start_s: from starting the process to the first right answer."""

    def __init__(
        self,
        contestant: Contestant,
        job: Job,
        question: Question,
        environment: Mapping[str, str],
        cores: str = str(SERVER_CORE),
    ) -> None:
        """question: whose right answer says that it is ready. cores: as taskset takes them."""
        self.contestant = contestant
        self.port = job.port
        self.work = job.work
        self.path = contestant.path.format(work=job.work)
        if contestant.name == "mosec" and job.work == "stream":
            self.path = "/stream"
        self.start_s = 0.0
        self._job = job
        self._question = question
        self._environment = environment
        self._cores = cores
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises ContestantError if it has not answered rightly within READY_S."""
        self._job.folder.mkdir(parents=True, exist_ok=True)
        command = ["taskset", "-c", self._cores, *self._job_command()]
        began = time.perf_counter()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.contestant.folder, env=self._variables(), stdout=log, stderr=log
            )
        reason = "nothing listens"
        while time.perf_counter() - began < READY_S:
            if self._process.poll() is not None:
                raise ContestantError(f"ended with {self._process.returncode}: {self._last_line()}")
            try:
                self.ask(self._question)
            except (OSError, http.client.HTTPException) as missing:
                reason = str(missing)
            except ContestantError as wrong:  # so too while it is still loading: 404, 503
                reason = str(wrong)
            else:
                self.start_s = time.perf_counter() - began
                return
            time.sleep(0.01)
        raise ContestantError(f"no right answer within {READY_S:.0f} s: {reason}: {self._last_line()}")

    def ask(self, question: Question) -> None:
        """Put it once, on a connection of its own. Raises ContestantError if the answer is wrong, OSError if none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        with contextlib.closing(connection):
            content = question.content(self.contestant.is_wrapped)
            connection.request("POST", self.path, content, {"Content-Type": question.content_type})
            answer = connection.getresponse()
            received = answer.read()
        if answer.status in REFUSALS:
            raise RefusedError(f"status {answer.status}: {received[:200]!r}")
        if not 200 <= answer.status < 300:
            raise ContestantError(f"status {answer.status}: {received[:200]!r}")
        if not question.is_answer(received, self.contestant.is_wrapped):
            raise ContestantError(f"a wrong answer: {received[:200]!r}")

    def check(self, question: Question) -> None:
        """As `ask`, but whatever goes wrong is a ContestantError. One that is still at work may refuse a while."""
        ends = time.monotonic() + ROOM_S
        while True:
            try:
                return self.ask(question)
            except RefusedError:
                if time.monotonic() > ends:
                    raise
            except (OSError, http.client.HTTPException) as lost:
                raise ContestantError(f"no answer: {lost!r}: {self._last_line()}") from None
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """Of the process that was started; it may have others."""
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Ask it to end, then end what is left of it; removes its folder."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        shutil.rmtree(self._job.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """The process ids that it consists of."""
        return list(measure.processes(self._mark))

    def cpu_s(self) -> float:
        return measure.cpu_s(self._mark)

    def memory_kb(self) -> int:
        return measure.memory_kb(self._mark)

    def watch_peak(self) -> int:
        """Let the peak begin anew. Returns what is resident now, in KiB."""
        measure.reset_peaks(self._mark)
        return measure.resident_kb(self._mark)

    def resident_kb(self) -> int:
        return measure.resident_kb(self._mark)

    def peak_kb(self) -> int:
        return measure.peak_kb(self._mark)

    @property
    def log(self) -> Path:
        return CACHE / "logs" / f"{self.contestant.name}-{self.work}.log"

    def _job_command(self) -> list[str]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.contestant.command(self._job)

    def _variables(self) -> dict[str, str]:
        """As if the contestant's environment were activated: Cog starts `python`. One thread for torch."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        own = {
            measure.MARK: self._mark,
            "PATH": f"{self._job.python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE / "shared"),
            "BENCH_WORK": self._job.work,
            "BENCH_SLOTS": str(self._job.slots),
            "BENCH_PORT": str(self._job.port),
            "PORT": str(self._job.port),
            "OMP_NUM_THREADS": "1",
        }
        return {**kept, **own, **self._environment, **self.contestant.environment}

    def _signal(self, number: signal.Signals) -> None:
        for pid in measure.processes(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _last_line(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it logged nothing"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
