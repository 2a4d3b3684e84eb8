"""What versions have counted, added up."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from fastserve.model.tally import Tally
from fastserve.model.version import Version


def version(revived: list[int], sizes: dict[int, int] | None = None, retried: int = 0) -> Version:
    pools = [SimpleNamespace(revived=count) for count in revived]
    batches: Any = None if sizes is None else SimpleNamespace(sizes=sizes, retried=retried)
    return cast(Version, SimpleNamespace(pools=pools, batches=batches))


def test_all_versions_count_and_those_without_batches_change_nothing_of_them() -> None:
    first = Tally().plus(version([1, 2]))
    assert first == Tally(3, None, 0)
    tally = first.plus(version([], {1: 2, 3: 1}, 1)).plus(version([4], {3: 5}, 2)).plus(version([0]))
    assert tally == Tally(7, Counter({1: 2, 3: 6}), 3)


def test_what_is_counted_later_does_not_change_what_was_told() -> None:
    sizes = {1: 1}
    tally = Tally().plus(version([], sizes))
    sizes[1] = 2
    assert tally.batch_sizes == {1: 1}
