"""The life of the one model behind this server: STARTING, READY, LEAVING, DRAINING, STOPPED.

`server.py` moves it; `endpoints/probes.py` and `endpoints/predict.py` read it. Knows nothing of sockets or models.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.IntEnum):
    STARTING = enum.auto()  # sockets are open, the model is still loading
    READY = enum.auto()  # loaded, answering
    LEAVING = enum.auto()  # asked to stop, still accepting: those who send requests are to see it unready first
    DRAINING = enum.auto()  # asked to stop: no new connections, what is in flight is finished
    STOPPED = enum.auto()


MOVES: Final = {
    State.STARTING: frozenset({State.READY, State.DRAINING, State.STOPPED}),
    State.READY: frozenset({State.LEAVING, State.DRAINING, State.STOPPED}),
    State.LEAVING: frozenset({State.DRAINING, State.STOPPED}),
    State.DRAINING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
}


class Lifecycle:
    """Where the server stands. `is_loaded` stays true while draining: requests in flight still need the model.

    is_model_good: the model is neither stuck nor out of memory all the time. If not, requests are better sent
    elsewhere; those that come are tried.
    """

    __slots__ = ("is_loaded", "is_model_good", "state")

    def __init__(self) -> None:
        self.state = State.STARTING
        self.is_loaded = False
        self.is_model_good = True

    def move_to(self, state: State) -> None:
        """Go on to `state`. Raises AssertionError if that move is not in MOVES."""
        assert state in MOVES[self.state], f"{self.state.name} -> {state.name}"
        self.state = state
        if state is State.READY:
            self.is_loaded = True

    @property
    def is_ready(self) -> bool:
        """Readiness: loaded, well and not asked to stop. Liveness is the event loop's alone and is not asked here."""
        return self.state is State.READY and self.is_model_good

    @property
    def takes_work(self) -> bool:
        """Whether what outlives a request may still begin: also by those who have not seen that it is leaving."""
        return self.state is State.READY or self.state is State.LEAVING
