"""A way into the model that keeps what is submitted, for endpoints alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fastserve.endpoints.prediction import Prediction
from fastserve.model.contract import Kind, Method, Takes
from fastserve.model.in_flight import Load
from fastserve.model.steps import Job


class FakeEntry:
    """model.runtime.Entry whose jobs the test plays. withdrawn: what was to be taken out of the queue."""

    def __init__(self, name: str = "predict", *, takes_request: bool = False, input_type: Any = None) -> None:
        self.exists = True
        self.takes_request = takes_request
        self.input_type = input_type
        self.last = Method(name, Kind.SYNC, print, Takes.INPUTS)
        self.load = Load()
        self.predict_at = 1
        self.steps = [name]
        self.at_once = 1
        self.jobs: list[Prediction] = []
        self.withdrawn: list[Job] = []

    def submit(self, job: Prediction) -> None:
        self.jobs.append(job)

    def reserve(self, job: Prediction) -> Callable[[], None]:
        self.load.size += job.size
        return functools.partial(self.submit, job)

    def withdraw(self, job: Job) -> None:
        self.withdrawn.append(job)

    def stage_of(self, job: Job) -> str:
        return "stream" if job.stream is not None else "predict"
