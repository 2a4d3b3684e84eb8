"""What the versions of a model have counted, added up when somebody asks.

Those that are gone count, too: a counter that fell would be read as a restart. Kept by `runtime.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastserve.model.version import Version


class Tally(NamedTuple):
    """revived: as of Workers. batch_sizes, batches_retried: as of Batches; None and 0 while no version has any."""

    revived: int = 0
    batch_sizes: Counter[int] | None = None
    batches_retried: int = 0

    def plus(self, version: Version) -> Tally:
        """With what `version` has counted."""
        revived = self.revived + sum(pool.revived for pool in version.pools)
        batches = version.batches
        if batches is None:
            return self._replace(revived=revived)
        sizes = Counter(batches.sizes) + (self.batch_sizes or Counter())
        return Tally(revived, sizes, self.batches_retried + batches.retried)
