"""`inference_mode: true`: predict runs in `torch.inference_mode()`, on its worker thread.

torch is imported for it, at load and at no other time. Used by `version.py`.
"""

from __future__ import annotations

import importlib
from types import AsyncGeneratorType
from typing import Any, Final

from fastserve.errors import ModelDefinitionError, SetupError
from fastserve.model.contract import Contract, Kind, Method
from fastserve.model.steps import Hall, Job, Step, ThreadStep
from fastserve.model.threads import Workers

_INSTEAD: Final = "leave inference_mode out and write `with torch.inference_mode():` where there is no `await`"


def find_inference_mode(contract: Contract) -> Any:
    """torch's `inference_mode`, for a model whose predict can be run in it.

    It is a state of the thread: in a coroutine it would be that of all others on the loop, from `await` to `await`.
    Raises ModelDefinitionError for a predict that is none for it, SetupError without torch.
    """
    predict = contract.predict
    if predict is None:
        raise ModelDefinitionError("inference_mode is for `predict`, which this model has not: leave it out")
    if predict.kind in (Kind.COROUTINE, Kind.ASYNC_GENERATOR):
        raise ModelDefinitionError(
            f"inference_mode is a state of a thread, and an async `predict` shares the loop's: {_INSTEAD}"
        )
    try:
        return importlib.import_module("torch").inference_mode
    except ImportError as error:
        raise SetupError(
            f"inference_mode needs torch, which cannot be imported ({error}): pip install 'fastserve[torch]', "
            "or leave inference_mode out"
        ) from None


def check_runs_here(generator: Any) -> None:
    """Raises ModelDefinitionError for an async generator, which leaves the thread."""
    if type(generator) is AsyncGeneratorType:
        raise ModelDefinitionError(f"`predict` returned an async generator, which runs on the loop: {_INSTEAD}")


class InferenceStep(ThreadStep):
    """A predict in inference mode, from its call to the end of what a generator yields and to the encoded result."""

    __slots__ = ("_inference_mode",)

    def __init__(
        self, hall: Hall, method: Method, workers: Workers, following: Step | None, inference_mode: Any
    ) -> None:
        super().__init__(hall, method, workers, following)
        self._inference_mode = inference_mode

    def _run(self, job: Job) -> None:
        with self._inference_mode():
            super()._run(job)

    def _stream_on_thread(self, job: Job, generator: Any) -> Any:
        check_runs_here(generator)
        return super()._stream_on_thread(job, generator)
