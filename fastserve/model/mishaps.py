"""What may happen to a job besides its end: its thread is struck, or memory runs out.

Costs a request nothing unless it happens. One for each version of the model, made by `version.py`.
"""

from __future__ import annotations

import time
from typing import Any

from fastserve.model.memory import Shortage, free_memory, is_out_of_memory
from fastserve.model.steps import Batch, Hall, Job
from fastserve.model.threads import Workers


class Mishaps:
    """pools: the threads of the version, those of predict first; set when they are made."""

    pools: tuple[Workers, ...]

    def __init__(self, hall: Hall, shortage: Shortage) -> None:
        self._hall = hall
        self._shortage = shortage
        self._finish = hall.finish
        hall.on_failure = self.on_failure

    # --- a struck thread ---

    def on_lost(self, job: Any, error: BaseException) -> None:
        """A thread had `job` in hand when it was struck: it may be over, or handed on, all the same. From any thread.

        What it may have been in the middle of: telling another thread, or the loop.
        """
        for pool in self.pools:
            pool.wake_after_strike()
        self._hall.completions.put_after_strike(self._give_up, (job, error))

    def _give_up(self, lost: tuple[Any, BaseException]) -> None:
        """On the loop, behind what the thread may have said of the job before."""
        held, error = lost
        if isinstance(held, Batch):
            for job in held.jobs:
                self._give_up_job(job, error)
            held.on_lost(held)
        elif isinstance(held, Job):
            self._give_up_job(held, error)

    def _give_up_job(self, job: Job, error: BaseException) -> None:
        if job.load is None:
            return
        if job.stream is None:
            job.error = job.error or error
            self._hall.finish(job)
            job.is_cancelled = True  # a step that it was handed on to need not begin
        else:
            job.stream.give_up(error)
            self._hall.completions.put(self._hall.finish, job)

    # --- out of memory ---

    def on_failure(self, error: BaseException, on_loop: bool) -> None:
        """A method has raised `error`, here."""
        if not is_out_of_memory(error):
            return
        if on_loop:
            self._note_shortage(None)
            self.pools[0].put(free_memory, error)  # it may take longer than the loop has
        else:
            self._hall.completions.put(self._note_shortage, None)
            free_memory(error)

    def _note_shortage(self, _: None) -> None:
        self._shortage.add(time.monotonic())
        self._hall.finish = self._finish_in_shortage

    def _finish_in_shortage(self, job: Job) -> None:
        """Until a request has succeeded: ordinary ones need not be asked whether they do."""
        stream = job.stream
        if job.error is None and not job.is_cancelled and (stream is None or stream.error is None):
            self._shortage.end()
            self._hall.finish = self._finish
        self._finish(job)
