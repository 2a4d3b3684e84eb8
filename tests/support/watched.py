"""Header fields that note which of them are asked for.

What is done with the answer is not seen. Used by the tests of what makes a head and of what routes it.
"""

from __future__ import annotations

from typing import Any


class WatchedFields(dict[bytes, bytes]):
    """asked: the names so far, whether or not there was such a field."""

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        super().__init__(fields)
        self.asked: set[bytes] = set()

    def get(self, name: bytes, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: bytes) -> bytes:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        assert isinstance(name, bytes)
        self.asked.add(name)
        return super().__contains__(name)
