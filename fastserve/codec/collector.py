"""Keeps Python's garbage collector from walking through a great many fresh values again and again.

What a parser makes holds no cycle, so there is nothing to collect; what validators of the user's make is collected
later. Entered by `endpoints/predict.py` for large content.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

# Content from here on may hold so many lists and maps that the collector counts: 256 KB of `[],` take 3 ms to parse
# without it and 10 ms with it, 16 MB 0.4 s and 1.7 s, 50 MB 1.5 s and 7 s (Python 3.11; from 3.12 on it waits for the
# parser). Below, an ordinary request pays nothing.
MIN_BYTES: Final = 256 * 1024
# From so many new lists and maps on they are handed to the oldest generation at once, or the collector would walk
# through all of them three times more before they are there: 2.5 s after those 50 MB, 10 ms for so few.
MANY: Final = 100_000


@contextlib.contextmanager
def resting_collector() -> Iterator[None]:
    """No collection while what is within makes values without cycles. For the loop's thread alone.

    A collector that the model has switched off is left alone. To hand the values on takes those along that were
    frozen after the start: the next full collection, a rare one, looks at these too.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()  # all generations to the permanent one,
            gc.unfreeze()  # and that to the oldest: two lists joined, whatever their length
        gc.enable()
