"""Which items make the next batch, and when it goes: the policy alone, without threads or a clock of its own.

Does not know what an item is. Any number may put, from any thread; one at a time takes. Used by `batch_step.py`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class _Entry:
    """What is known of an item. size: 0 until it is asked for."""

    __slots__ = ("arrived", "size")

    def __init__(self, arrived: float) -> None:
        self.arrived = arrived
        self.size = 0


class BatchQueue(Generic[T]):
    """Items, each there once, in the order of their arrival, the foremost of which make the next batch.

    A batch is full if the next item does not fit into it. A full one goes at once, any other when its oldest item has
    waited long enough. All times are in seconds by the same clock.

    A thread that looks or takes may be struck anywhere (`mishaps.py`). Items are moved by calls into C alone, so that
    each is always somewhere; the next look finds it.
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
        self._arrived: OrderedDict[T, _Entry] = OrderedDict()  # not looked at yet
        self._foremost: Iterator[tuple[T, _Entry]] = map(
            OrderedDict.popitem, itertools.repeat(self._arrived), itertools.repeat(False)
        )
        self._looked_at: list[tuple[T, _Entry]] = []  # the next batch so far, and what did not fit into it

    def put(self, item: T, now: float) -> None:
        """Add `item`, which arrives at `now`."""
        self._arrived[item] = _Entry(now)

    def withdraw(self, item: T) -> bool:
        """Take `item` back. Returns False if it has been looked at: then it is dropped at the next look, or is on its
        way.
        """
        return self._arrived.pop(item, None) is not None

    def take(self, now: float, into: list[T] | None = None) -> list[T]:
        """The next batch if it goes at `now`, else an empty list; is_wanted and size_of are called.

        into: what it is also added to, before it leaves the queue.
        """
        count, is_full = self._fill()
        if not count or not (is_full or not self._wait_s or now >= self.goes_at):
            return []
        batch = [item for item, _ in self._looked_at[:count]]
        if into is not None:
            into.extend(batch)
        del self._looked_at[:count]
        return batch

    def take_all(self) -> list[T]:
        """Whatever is there; nothing is looked at."""
        items = [item for item, _ in self._looked_at] + list(self._arrived)
        self._looked_at.clear()
        self._arrived.clear()
        return items

    @property
    def goes_at(self) -> float:
        """When the batch goes that `take` has not given yet, if it is not full before."""
        if not self._looked_at:
            return 0.0  # at once: what has arrived was not looked at
        _, oldest = self._looked_at[0]
        return oldest.arrived + self._wait_s

    def __len__(self) -> int:
        return len(self._looked_at) + len(self._arrived)

    @property
    def is_empty(self) -> bool:
        return not len(self)

    @property
    def may_be_full(self) -> bool:
        """Whether it is worth a look if the next batch is full by now. For those who put."""
        return self._size_of is not None or len(self) >= self._max_size

    def _fill(self) -> tuple[int, bool]:
        """Look at what may be in the next batch. Returns how many are, and whether it is full."""
        self._looked_at[:] = [looked_at for looked_at in self._looked_at if self._is_wanted(looked_at[0])]
        count = size = 0
        while size < self._max_size:
            if count == len(self._looked_at) and not self._look():
                return count, False
            item, entry = self._looked_at[count]
            if not entry.size:
                entry.size = 1 if self._size_of is None else self._size_of(item)
            if not entry.size:
                del self._looked_at[count]
            elif count and size + entry.size > self._max_size:
                return count, True
            else:
                size += entry.size
                count += 1
        return count, True

    def _look(self) -> bool:
        """Add the first item that is wanted to those looked at. Returns False if there is none."""
        while self._arrived:
            try:
                self._looked_at.extend(itertools.islice(self._foremost, 1))
            except KeyError:  # it was withdrawn meanwhile
                break
            if self._is_wanted(self._looked_at[-1][0]):
                return True
            del self._looked_at[-1]
        return False
