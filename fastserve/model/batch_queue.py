"""Which items make the next batch, and when it goes: the policy alone, without threads or a clock of its own.

Does not know what an item is. Any number may put, from any thread; one at a time takes. Used by `batch_step.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class BatchQueue(Generic[T]):
    """Items, each there once, in the order of their arrival, the foremost of which make the next batch.

    A batch is full if the next item does not fit into it. A full one goes at once, any other when its oldest item has
    waited long enough. All times are in seconds by the same clock.
    """

    def __init__(
        self,
        max_size: int,
        wait_s: float,
        is_wanted: Callable[[T], bool],
        size_of: Callable[[T], int] | None = None,
    ) -> None:
        """max_size: what the sizes in a batch come to at most; an item that is bigger goes alone.

        wait_s: how long an item waits for others from its arrival on; with 0 whatever is there goes.
        is_wanted: asked each time an item is looked at; one that is not wanted is forgotten.
        size_of: at least 1, asked once for each item; one of size 0 is forgotten. Without it each is 1.
        """
        self._max_size = max_size
        self._wait_s = wait_s
        self._is_wanted = is_wanted
        self._size_of = size_of
        self._arrived: OrderedDict[T, float] = OrderedDict()  # not looked at yet; and when they arrived
        self._next: list[tuple[T, float, int]] = []  # the next batch so far, with sizes
        self._left_over: tuple[T, float, int] | None = None  # looked at, and did not fit into the batch before

    def put(self, item: T, now: float) -> None:
        """Add `item`, which arrives at `now`."""
        self._arrived[item] = now

    def withdraw(self, item: T) -> bool:
        """Take `item` back. Returns False if it has been looked at: then it is dropped at the next look, or is on its
        way.
        """
        return self._arrived.pop(item, None) is not None

    def take(self, now: float) -> list[T]:
        """The next batch if it goes at `now`, else an empty list; is_wanted and size_of are called."""
        is_full = self._fill()
        if not self._next or not (is_full or not self._wait_s or now >= self.goes_at):
            return []
        batch, self._next = self._next, []
        return [item for item, _, _ in batch]

    def take_all(self) -> list[T]:
        """Whatever is there; nothing is looked at."""
        last = [] if self._left_over is None else [self._left_over]
        items = [item for item, _, _ in [*self._next, *last]] + list(self._arrived)
        self._next, self._left_over = [], None
        self._arrived.clear()
        return items

    @property
    def goes_at(self) -> float:
        """When the batch goes that `take` has not given yet, if it is not full before."""
        return self._next[0][1] + self._wait_s if self._next else 0.0  # at once: what has arrived was not looked at

    def __len__(self) -> int:
        return len(self._next) + len(self._arrived) + (self._left_over is not None)

    @property
    def is_empty(self) -> bool:
        return not len(self)

    @property
    def may_be_full(self) -> bool:
        """Whether it is worth a look if the next batch is full by now. For those who put."""
        return self._size_of is not None or len(self._next) + len(self._arrived) >= self._max_size

    def _fill(self) -> bool:
        """Add to the next batch what fits. Returns whether it is full."""
        self._next = [entry for entry in self._next if self._is_wanted(entry[0])]
        size = sum(entry[2] for entry in self._next)
        while size < self._max_size:
            entry = self._look()
            if entry is None:
                return False
            if self._next and size + entry[2] > self._max_size:
                self._left_over = entry
                return True
            self._next.append(entry)
            size += entry[2]
        return True

    def _look(self) -> tuple[T, float, int] | None:
        """The first item behind the next batch that is wanted, with its size."""
        if (entry := self._left_over) is not None:
            self._left_over = None
            if self._is_wanted(entry[0]):
                return entry
        while self._arrived:
            item, arrived = self._arrived.popitem(last=False)
            if self._is_wanted(item) and (size := 1 if self._size_of is None else self._size_of(item)):
                return item, arrived, size
        return None
