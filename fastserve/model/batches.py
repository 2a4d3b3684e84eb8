"""What the batch steps of one version of the model share: the settings, the model's `batch_size_of`, what is counted.

Does not make batches; `batch_step.py` does. Made by `version.py` for a model that asks for batches, and else not
imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sized
from typing import Any

from fastserve.model.batched_contract import read_batched, read_size_of
from fastserve.model.batching import Batching
from fastserve.model.contract import Contract


class Batches:
    """Like `Hall`, for batches.

    settings: from config.yaml. size_of: the model's `batch_size_of`; None without.
    queues: of its batch steps.
    sizes: how many batches there were of so many inputs, for metrics; what is tried anew is not counted again.
    retried: how many failed and had their inputs tried alone.
    on_close: called when the version is stopped, so that no thread sleeps on.
    """

    def __init__(self, settings: Batching) -> None:
        self.settings = settings
        self.size_of: Callable[[Any], Any] | None = None
        self.queues: list[Sized] = []
        self.sizes: dict[int, int] = {}
        self.retried = 0
        self.on_close: list[Callable[[], None]] = []
        self._lock = threading.Lock()  # several threads make batches

    def read(self, model: object, contract: Contract) -> Contract:
        """`contract` as a single request sees it. Raises ModelDefinitionError."""
        self.size_of = read_size_of(model)
        return read_batched(contract)

    def count(self, inputs: int) -> None:
        """A batch of so many goes. From any thread."""
        with self._lock:
            self.sizes[inputs] = self.sizes.get(inputs, 0) + 1

    @property
    def at_once(self) -> int:
        """Inputs that a batch takes when many wait; by those so far, if it is for the model to say."""
        if self.size_of is None:
            return self.settings.max_size
        return max(list(self.sizes), default=1)  # a copy: threads go on counting

    def count_retried(self) -> None:
        """A batch has failed. From any thread."""
        with self._lock:
            self.retried += 1

    @property
    def queued(self) -> int:
        """Requests that are in no batch yet."""
        return sum(map(len, self.queues))

    def close(self) -> None:
        """No further batch is made."""
        for close in self.on_close:
            close()
