"""Whether one more request may come in, when to try again if not, and how late it may begin: bounds on what waits.

Knows the numbers only; the endpoint refuses, `model/in_flight.py` counts. Made by `predict.py`.
"""

from __future__ import annotations

import math
from typing import Final

from fastserve.config import Config
from fastserve.metrics import NANO
from fastserve.model.in_flight import Load

# Seconds that a client is told to wait: at least one, as the field has no fractions (RFC 9110 section 10.2.3); at
# most an hour, lest one slow answer keep clients away for longer than a restart would take.
LEAST_RETRY_S: Final = 1
MOST_RETRY_S: Final = 3600

# By so many times what a predict takes it must begin before its deadline. Of a queue that is longer than the deadline
# each begins at the last moment there is; half of them would then be late if that were once what a predict takes.
SPARE: Final = 1.5


class Admission:
    """The bounds of one way into the model.

    most: requests at work or waiting; more are turned away. most_bytes: content that they may hold.
    """

    __slots__ = ("_at_once", "_before", "_max_queue", "_service_s", "most", "most_bytes")

    def __init__(self, config: Config) -> None:
        self._max_queue = config.max_queue
        self.fit(config.predict_concurrency)
        self.most_bytes = config.max_queue_bytes
        self._before = (0, 0)  # count and sum of the predicts that have been looked at
        self._service_s = 0.0  # what one took, of late

    def fit(self, at_once: int) -> None:
        """at_once: how many requests can be at work, which are none of those that wait."""
        self._at_once = at_once
        self.most = at_once + self._max_queue

    def has_room_for(self, size: int, load: Load) -> bool:
        """Whether `size` bytes of content may be held. One request is let in alone, however large."""
        return not load.size or load.size + size <= self.most_bytes

    def retry_after_s(self, load: Load, predicts: tuple[int, int]) -> int:
        """When there will be room for one more request: all before it, at the time that a predict has taken of late.

        predicts: how many there were, and how long they took, in ns. In whole seconds.
        """
        wait_s = load.jobs * self._service_of_late_s(predicts) / self._at_once
        return min(MOST_RETRY_S, max(LEAST_RETRY_S, math.ceil(wait_s)))

    def spare_ns(self, predicts: tuple[int, int]) -> int:
        """How long before its deadline a predict must begin to be over in time, as far as that is known."""
        return round(SPARE * self._service_of_late_s(predicts) / NANO)

    def _service_of_late_s(self, predicts: tuple[int, int]) -> float:
        """What one predict took, since it was asked last that any was over."""
        count, total_ns = predicts
        if count > self._before[0]:
            self._service_s = (total_ns - self._before[1]) * NANO / (count - self._before[0])
            self._before = (count, total_ns)
        return self._service_s
