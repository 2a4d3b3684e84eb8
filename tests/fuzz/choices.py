"""Where a generator's decisions come from: a seed, hypothesis, or the bytes that a coverage-guided fuzzer hands out.

Numbers and octets alone; what is made of them is `grammar.py`'s and `mutation.py`'s. Made by the three drivers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    """Decisions, one after the other. 0 is the plainest: shrinking goes towards it."""

    def below(self, bound: int) -> int:
        """A number from 0 on, under `bound`, which is at least 1."""
        ...

    def octets(self, most: int) -> bytes:
        """Up to `most` bytes."""
        ...


class Seeded:
    """From a seed: the same decisions each time."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return int(self._random.random() * bound)  # randrange takes four times as long

    def octets(self, most: int) -> bytes:
        return self._random.randbytes(self.below(most + 1))


class Drawn:
    """From hypothesis, which remembers and shrinks them."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def below(self, bound: int) -> int:
        number: int = self._draw(st.integers(0, bound - 1))
        return number

    def octets(self, most: int) -> bytes:
        octets: bytes = self._draw(st.binary(max_size=most))
        return octets


class FromBytes:
    """From bytes, front to back; zeros when they are used up."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._used = 0

    def below(self, bound: int) -> int:
        return int.from_bytes(self._take(1 if bound <= 256 else 4), "big") % bound

    def octets(self, most: int) -> bytes:
        return self._take(self.below(most + 1))

    def rest(self) -> bytes:
        """All that is left."""
        return self._take(len(self._source))

    def _take(self, size: int) -> bytes:
        taken = self._source[self._used : self._used + size]
        self._used += size
        return taken


def pick(choices: Choices, among: Sequence[T]) -> T:
    return among[choices.below(len(among))]


def one_in(choices: Choices, number: int) -> bool:
    """True once in `number` times; the plainest is False."""
    return choices.below(number) == number - 1
