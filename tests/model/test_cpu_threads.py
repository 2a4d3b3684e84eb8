"""torch's threads on the CPU: shared out among predicts that run at once, unless somebody has chosen a number."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.model import cpu_threads
from fastserve.model.cpu_threads import VARIABLES, count_cores, cpu_quota, share_cores
from fastserve.model.runtime import Runtime
from tests.model.test_runtime import ask


class FakeTorch:
    def __init__(self, count: int) -> None:
        self.count = count

    def get_num_threads(self) -> int:
        return self.count

    def set_num_threads(self, count: int) -> None:
        self.count = count


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    """With 8 cores, of which it uses all."""
    monkeypatch.setattr(cpu_threads, "count_cores", lambda: 8)
    monkeypatch.setattr(cpu_threads, "cpu_quota", lambda file: float("inf"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    fake = FakeTorch(8)
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.mark.parametrize(
    "present, slots, share",
    [
        (8, 1, 8),  # nobody to share with
        (8, 2, 4),
        (8, 3, 2),
        (8, 8, 1),
        (8, 100, 1),
        (4, 2, 4),  # of hyperthreads it uses half, which is the share already
        (4, 4, 2),
        (6, 4, 6),  # somebody has chosen 6
        (1, 4, 1),
        (16, 4, 16),
    ],
)
def test_each_predict_gets_its_share_unless_somebody_has_chosen(
    torch: FakeTorch, present: int, slots: int, share: int
) -> None:
    torch.count = present
    share_cores(slots)
    assert torch.count == share


@pytest.mark.parametrize("name", VARIABLES)
def test_who_sets_a_variable_has_chosen(torch: FakeTorch, name: str) -> None:
    share_cores(4, {name: "8"})
    assert torch.count == 8
    share_cores(4, {name: ""})
    assert torch.count == 2


def test_the_log_says_what_was_set_and_how_to_set_another(torch: FakeTorch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    share_cores(4)
    assert "torch computes with 2 of 8 threads" in caplog.text
    assert "OMP_NUM_THREADS" in caplog.text


def test_without_torch_nothing_is_done(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    share_cores(4)
    assert not caplog.records


@pytest.mark.parametrize("has_affinity", [True, False])
def test_the_cores_counted_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch, has_affinity: bool) -> None:
    if not has_affinity:  # as on macOS
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert count_cores() == 1
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
        assert count_cores() == 3


@pytest.mark.parametrize(
    "said, quota",
    [("250000 100000\n", 2.5), ("50000 100000", 0.5), ("max 100000\n", float("inf")), ("", float("inf"))],
)
def test_a_container_s_limit_is_read(tmp_path: Path, said: str, quota: float) -> None:
    (tmp_path / "cpu.max").write_text(said)
    assert cpu_quota(tmp_path / "cpu.max") == quota


def test_without_a_cgroup_there_is_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "cpu.max") == float("inf")


@pytest.mark.parametrize("quota, share", [(4.0, 2), (3.9, 1), (0.5, 1), (100.0, 4)])
def test_what_is_shared_out_is_what_the_container_gets(
    torch: FakeTorch, monkeypatch: pytest.MonkeyPatch, quota: float, share: int
) -> None:
    monkeypatch.setattr(cpu_threads, "cpu_quota", lambda file: quota)
    share_cores(2)
    assert torch.count == share


class Model:
    """Notes how many there were in load; chooses 7 there if it `chooses`."""

    chooses = False

    def load(self) -> None:
        self.seen = sys.modules["torch"].get_num_threads()
        if self.chooses:
            sys.modules["torch"].set_num_threads(7)

    def predict(self, payload: Any) -> Any:
        return self.seen, sys.modules["torch"].get_num_threads()


class Choosing(Model):
    chooses = True


class Async(Model):
    async def predict(self, payload: Any) -> Any:
        return super().predict(payload)


@pytest.mark.parametrize(
    "model, slots, expected", [(Model, 4, (2, 2)), (Model, 1, (8, 8)), (Choosing, 4, (2, 7)), (Async, 4, (8, 8))]
)
def test_it_is_done_before_load_which_may_choose_another_and_not_for_coroutines(
    serve: Callable[..., Any], torch: FakeTorch, model: type, slots: int, expected: tuple[int, int]
) -> None:
    async def scenario(runtime: Runtime) -> None:
        assert await ask(runtime, "x") == expected

    serve(model, scenario, slots=slots)
