"""Real processes under the bench: started, asked, frozen, measured, ended, and told of when they fail."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import environments, measure, questions, server
from bench.__main__ import chosen_contestants, chosen_workloads, main
from bench.contestants import field
from bench.contestants.field import Contestant, Job
from bench.load import probes
from bench.load.alone import MODELS, alone
from bench.load.closed import Closed
from bench.load.endurance import Checker
from bench.load.one_by_one import OneByOne
from bench.load.quantiles import Figures
from bench.report.results import load
from bench.rounds import LONG_S, Results, Rounds
from bench.server import ContestantError, RefusedError, Server, TooSlowError, free_port
from bench.workloads import QUICK, WORKLOADS, Start, Workload

FASTSERVE = field.BY_NAME["fastserve"]
ECHO = Workload("echo", "echo", "echo", questions.trivial(), OneByOne(1))


def failing(name: str, program: str) -> Contestant:
    """A contestant that runs `program` instead."""
    return dataclasses.replace(
        FASTSERVE, name=name, command=lambda job: [sys.executable, "-c", program], code="floor"
    )


@contextlib.contextmanager
def started(contestant: Contestant, folder: Path, work: str = "echo") -> Iterator[Server]:
    job = Job(Path(sys.executable), work, 1, free_port(), folder)
    one = Server(contestant, job, questions.trivial(), {"PYTHONPATH": f"{field.HERE / 'shared'}:{field.ROOT}"})
    try:
        one.start()
        yield one
    finally:
        one.end()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CACHE", tmp_path)
    monkeypatch.setattr("bench.rounds.CACHE", tmp_path)


def test_a_contestant_is_started_checked_frozen_and_ended(tmp_path: Path) -> None:
    with started(FASTSERVE, tmp_path / "run") as one:
        assert one.start_s > 0
        assert one.cpu_s() > 0
        assert one.memory_kb() > 1000
        with pytest.raises(ContestantError, match="a wrong answer"):
            one.check(questions.echo({"v": 13}).__class__(b'{"v":13}', lambda content: False))
        one.freeze()
        os.waitid(os.P_PID, one.pid, os.WSTOPPED)  # a signal takes effect when the process next runs
        mark = one._mark
        states = {
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in measure.processes(mark)
        }
        assert states == {"T"}
        one.thaw()
        one.check(questions.trivial())
        before_kb = one.watch_peak()
        assert before_kb > 1000
        assert one.peak_kb() >= before_kb * 0.9
    assert not list(measure.processes(mark))
    assert not (tmp_path / "run").exists()


def test_one_that_refuses_at_first_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(Path(sys.executable), "echo", 1, free_port(), tmp_path)
    one = Server(FASTSERVE, job, questions.trivial(), {})
    answers = [RefusedError("status 409"), RefusedError("status 409"), None]

    def ask(question: questions.Question) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(one, "ask", ask)
    one.check(questions.trivial())
    assert answers == []
    monkeypatch.setattr(server, "ROOM_S", -1.0)
    answers.append(RefusedError("status 409"))
    with pytest.raises(RefusedError):
        one.check(questions.trivial())


def test_one_that_ends_is_told_of_with_its_last_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ContestantError, match="ended with 3: no model here"),
        started(failing("ends", "print('no model here', flush=True); raise SystemExit(3)"), tmp_path / "run"),
    ):
        pytest.fail("it started")


def test_one_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READY_S", 0.3)
    with (
        pytest.raises(ContestantError, match=r"no right answer within 0 s: .*refused"),
        started(failing("sleeps", "import time; time.sleep(60)"), tmp_path / "run"),
    ):
        pytest.fail("it started")


def test_the_cost_of_children_counts_too() -> None:
    mark = uuid.uuid4().hex
    program = """if True:
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "sum(range(5_000_000))"])
        print("done", flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, measure.MARK: mark},
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert list(measure.processes(mark)) == [parent.pid]
        assert measure.cpu_s(mark) >= 0.05  # the child, which has ended
        assert measure.resident_kb(mark) >= measure.memory_kb(mark) > 0
        parent.communicate(b"\n")
    assert (measure.cpu_s(mark), measure.peak_kb(mark)) == (0, 0)


def test_rounds_take_turns_and_nobody_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ensure(contestant: Contestant) -> Path:
        if contestant.name == "sink":
            raise environments.InstallError("pip: no such wheel")
        return Path(sys.executable)

    monkeypatch.setattr(environments, "ensure", ensure)
    ours = dataclasses.replace(FASTSERVE, environment={"PYTHONPATH": f"{field.HERE / 'shared'}:{field.ROOT}"})
    sink = dataclasses.replace(field.BY_NAME["sink"], lacks={})
    broken = failing("mosec", "raise SystemExit('broken')")
    lacking = dataclasses.replace(FASTSERVE, name="cog", lacks={"echo": "does nothing"})
    wrong = dataclasses.replace(ECHO, name="other", question=questions.echo({"v": 13}))
    wrong = dataclasses.replace(wrong, question=dataclasses.replace(wrong.question, is_right=lambda content: False))
    start = dataclasses.replace(ECHO, name="start", load=Start())
    seen: list[list[str]] = []

    def after_each(results: Results) -> None:
        seen.append(list(results))

    run = Rounds([ours, sink, broken, lacking, field.BY_NAME["floor"]], 2, 0, after_each)
    results = run.run([ECHO, wrong, start])
    assert seen == [["echo"], ["echo", "other"], ["echo", "other", "start"]]
    assert [len(results["echo"][name]["rounds"]) for name in ("fastserve", "floor")] == [2, 2]
    figures = results["echo"]["fastserve"]["rounds"][0]
    assert figures["requests"] >= 1
    assert figures["memory_kb"] > 0
    assert results["echo"]["sink"]["error"] == "not installed: pip: no such wheel"
    assert results["echo"]["mosec"]["error"] == "ended with 1: broken"
    assert results["echo"]["cog"]["lacks"] == "does nothing"
    assert "a wrong answer" in results["other"]["fastserve"]["error"]
    assert results["start"]["fastserve"]["rounds"][1]["start_s"] > 0  # it was started anew after the wrong one
    turns = [
        line.split()[0] for line in capfd.readouterr().err.splitlines() if " echo 1/2" in line or " echo 2/2" in line
    ]
    assert turns == ["fastserve", "floor"] * 2


def test_the_command_line_chooses() -> None:
    assert [workload.name for workload in chosen_workloads(None, full=False)] == [
        workload.name for workload in WORKLOADS if workload.name in QUICK
    ]
    assert chosen_workloads(None, full=True) == list(WORKLOADS)
    assert [workload.name for workload in chosen_workloads("idle", full=True)] == ["idle"]
    assert [contestant.name for contestant in chosen_contestants("ray,floor", full=False)] == ["floor", "ray"]
    assert chosen_contestants(None, full=True) == list(field.CONTESTANTS)


def test_a_name_that_there_is_not_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--contestants", "flask"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "no contestant 'flask'; there are floor, sink" in capsys.readouterr().err


class Slow:
    """A load to which a round as short as the first brings no answer."""

    is_all_requests = False
    checks_answers = True

    def __init__(self) -> None:
        self.lasted: list[int] = []

    def drive(self, server: Server, question: questions.Question, seconds: int) -> Figures:
        self.lasted.append(seconds)
        if seconds < LONG_S:
            raise TooSlowError("no answer")
        return {"rps": 0.1, "errors": 0}


def test_a_round_without_an_answer_is_tried_again_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ensure", lambda _: Path(sys.executable))
    slow = Slow()
    workload = dataclasses.replace(ECHO, load=slow, most_rounds=1)  # type: ignore[arg-type]
    results = Rounds([field.BY_NAME["floor"]], 2, 1, lambda _: None).run([workload])
    assert [figures["rps"] for figures in results["echo"]["floor"]["rounds"]] == [0.1]
    assert slow.lasted[-2:] == [1, LONG_S]


@pytest.mark.parametrize("connections, lasted", [(3, 1), (4, LONG_S)])
def test_a_round_with_fewer_answers_than_connections_is_too_short(
    connections: int, lasted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrk(port: int, path: str, connections: int, seconds: int, arguments: list[str]) -> dict[str, float]:
        told = dict.fromkeys(("p50_us", "p99_us", "p999_us", "lost", "timeouts", "predict_us"), 0.0)
        return {**told, "seconds": seconds, "requests": 3 * seconds, "refused": 2 * seconds}

    monkeypatch.setattr(environments, "ensure", lambda _: Path(sys.executable))
    monkeypatch.setattr("bench.load.closed.wrk", wrk)
    workload = dataclasses.replace(ECHO, load=Closed(connections))
    results = Rounds([field.BY_NAME["floor"]], 1, 1, lambda _: None).run([workload])
    assert [figures["seconds"] for figures in results["echo"]["floor"]["rounds"]] == [lasted]


def test_a_run_goes_on_where_one_was_cut_or_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[list[str]] = []

    class Fake:
        def __init__(self, *arguments: Any) -> None:
            self._contestants, *_, self._save = arguments

        def run(self, chosen: list[Workload]) -> None:
            measured.append([workload.name for workload in chosen])
            entries = {contestant.name: {"rounds": [{"rps": 1.0}]} for contestant in self._contestants}
            self._save({workload.name: entries for workload in chosen})

    def bench(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["bench", "--contestants", "floor", "--out", str(tmp_path), *words])
        assert main() == 0
        return load(tmp_path).workloads

    monkeypatch.setattr("bench.__main__.Rounds", Fake)
    monkeypatch.setattr("bench.__main__.signal.signal", lambda *_: None)
    monkeypatch.setattr("bench.__main__.os.sched_setaffinity", lambda *_: None)
    assert bench("--workloads", "sync-c1") == ["sync-c1"]
    assert bench("--workloads", "sync-c1,sync-c8", "--missing") == ["sync-c1", "sync-c8"]
    both = ["--workloads", "sync-c1,sync-c8", "--missing"]
    bench("--workloads", "sync-c1", "--missing", "--contestants", "floor,ray")
    bench(*both, "--contestants", "ray,floor")
    bench(*both, "--full")  # rounds of a full run are shorter
    bench(*both, "--full")
    assert bench("--workloads", "start", "--fresh") == ["start"]
    assert measured == [["sync-c1"], ["sync-c8"], ["sync-c1"], ["sync-c8"], ["sync-c1", "sync-c8"], [], ["start"]]
    assert (tmp_path / "table.md").read_text().count("### ") == 1
    monkeypatch.setattr("bench.__main__.machine.describe", lambda: {"processor": "abacus", "cores": "10"})
    with pytest.raises(SystemExit, match="2"):
        bench("--workloads", "start")


def test_fastserve_alone_is_probed_and_asked_at_random() -> None:
    with alone(MODELS / "busy", probes.busy(0.001)) as one:
        times = probes.probe_while_busy(one, 3, 1.0)
    assert len(times) == 3
    assert times == sorted(times)


def test_a_checker_asks_until_it_is_stopped_and_keeps_what_went_wrong() -> None:
    with alone(MODELS / "echo", questions.trivial()) as one:
        checker = Checker(one, 1)
        checker.start()
        while not checker.count and checker.is_alive():
            checker.join(0.01)
        checker.must_stop = True
        checker.join()
    assert checker.mistake is None
    lost = Checker(one, 2)  # the server has ended
    lost.run()
    assert isinstance(lost.mistake, OSError)
