"""A bar that a measurement is to meet: what was measured, in words, and whether it is met.

Leaves measuring to the loads, and what is enough to them. Called by `overload.py` and `batching.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """text: the figure and what is asked of it."""

    text: str
    is_met: bool


def tell(bars: Iterable[Bar]) -> int:
    """Print each with PASS or FAIL. Returns the process's exit status: 0 if all are met."""
    status = 0
    for bar in bars:
        print(f"  {'PASS' if bar.is_met else 'FAIL'}  {bar.text}", flush=True)
        status = status if bar.is_met else 1
    return status
