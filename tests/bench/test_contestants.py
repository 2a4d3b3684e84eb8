"""The contestants, the workloads and the questions fit together; what is sent is what it is said to be."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest

from bench import questions, workloads
from bench.contestants import field
from bench.contestants.field import Contestant, Job
from bench.contestants.shared import work
from bench.report import plots
from bench.workloads import Workload

WRONG = (b"", b"{}", b"[]", b'{"echo": 1}', b"not JSON")


@pytest.mark.parametrize("contestant", field.CONTESTANTS, ids=lambda contestant: contestant.name)
def test_a_contestant_has_its_code_and_a_command(contestant: Contestant) -> None:
    job = Job(Path("python"), "echo", 1, 8080, Path("folder"))
    command = contestant.command(job)
    assert "python" in command
    assert all(isinstance(word, str) for word in command)
    assert contestant.folder.is_dir()
    assert set(contestant.lacks) <= {*field.WORKS, *(workload.family for workload in workloads.WORKLOADS)}


def test_a_workload_is_known_to_all_or_lacked() -> None:
    assert {workload.work for workload in workloads.WORKLOADS} == set(field.WORKS)
    assert len(workloads.BY_NAME) == len(workloads.WORKLOADS)
    assert {workload.plot for workload in workloads.WORKLOADS} - {""} == {axis.name for axis in plots.AXES}
    assert set(workloads.QUICK) <= set(workloads.BY_NAME)
    assert set(workloads.QUICK_CONTESTANTS) <= set(field.BY_NAME)


def test_workloads_of_the_same_work_stand_together_so_that_servers_are_started_once() -> None:
    order = [(workload.work, workload.slots) for workload in workloads.WORKLOADS]
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert changes + 1 == len(set(order))


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda workload: workload.name)
def test_a_wrong_answer_is_seen(workload: Workload) -> None:
    assert not any(
        workload.question.is_answer(content, is_wrapped) for content in WRONG for is_wrapped in (True, False)
    )


def test_a_name_chooses_a_workload_or_all_that_begin_with_it() -> None:
    assert [workload.name for workload in workloads.named(["json", "start"])] == [
        "json-1k", "json-10k", "json-100k", "json-1m", "start",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no workload 'jso'"):
        workloads.named(["jso"])


@pytest.mark.parametrize("size", [1000, 100_000])
def test_json_is_of_its_size_and_comes_back(size: int) -> None:
    question = questions.of_size(size)
    assert abs(len(question.body) - size) < size * 0.1
    assert question.is_answer(b'{"echo":%b}' % question.body, False)


def test_an_answer_in_an_envelope_is_taken_out_of_it() -> None:
    question = questions.trivial()
    assert json.loads(question.content(True)) == {"input": {"payload": {"v": 12}}}
    assert question.is_answer(b'{"status": "succeeded", "output": {"echo": {"v": 12}}}', True)
    assert not question.is_answer(b'{"status": "succeeded", "output": {"echo": {"v": 13}}}', True)


def test_a_tensor_is_what_msgpack_numpy_reads_and_its_answer_what_it_writes() -> None:
    question = questions.tensor(4000)
    payload: Any = msgpack.unpackb(question.body, object_hook=msgpack_numpy.decode)
    assert payload["x"].dtype == np.float32
    assert payload["x"].tolist() == [1.0] * 1000

    def answer(array: Any) -> bytes:
        packed: bytes = msgpack.packb({"y": array}, default=msgpack_numpy.encode)
        return packed

    assert question.is_answer(answer(payload["x"] * 2), False)
    assert not question.is_answer(answer(payload["x"]), False)


def test_streams_and_bytes_are_counted() -> None:
    assert questions.stream(3).is_answer(b"data: 8 bytes.\n\n" * 3, False)
    assert not questions.stream(3).is_answer(b"8 bytes." * 2, False)
    assert questions.upload(10).is_answer(b'{"received": 10}', False)
    assert questions.download(10).is_answer(bytes(10), False)
    assert not questions.download(10).is_answer(bytes(9), False)


def test_embeddings_are_checked_for_their_length() -> None:
    row = [384**-0.5] * 384
    assert questions.minilm().is_answer(json.dumps({"embeddings": [row]}).encode(), False)
    assert not questions.minilm().is_answer(json.dumps({"embeddings": [[*row[:-1], 1.0]]}).encode(), False)
    assert questions.minilm_batched().is_answer(json.dumps({"embeddings": [row]}).encode(), False)
    assert questions.minilm_batched().is_answer(json.dumps([row]).encode(), False)
    assert not questions.minilm_batched().is_answer(json.dumps([row, row]).encode(), False)
    assert questions.mlp(1, 2).is_answer(b'{"y": [[1, 2]]}', False)
    assert not questions.mlp(1, 2).is_answer(b'{"y": [[1]]}', False)


def test_a_batch_is_encoded_at_once_and_each_gets_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        encoded.append(texts)
        return np.array([[float(len(text))] for text in texts])

    monkeypatch.setattr(work, "load_encoder", lambda: encode)
    predict = work.load_minilm_batched()  # type: ignore[no-untyped-call]
    assert predict([{"texts": ["a", "bb"]}, {"texts": ["ccc"]}]) == [
        {"embeddings": [[1.0], [2.0]]},
        {"embeddings": [[3.0]]},
    ]
    assert encoded == [["a", "bb", "ccc"]]


def test_a_timed_predict_says_how_long_it_took_and_since_when_none_had_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 11.5, 11.75, 13.75])  # made; began and ended, twice
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    predict = work.timed(lambda payload: {"echo": payload})  # type: ignore[no-untyped-call]  # work.py has no types
    assert predict(1) == {"echo": 1, "predict_us": 500_000, "between_us": 1_000_000}
    assert predict(2) == {"echo": 2, "predict_us": 2_000_000, "between_us": 250_000}
