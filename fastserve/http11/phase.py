"""The phases of one exchange on a connection, and the legal moves between them.

A table and nothing else. `connection.py` is the only file that moves.
"""

from __future__ import annotations

import enum
from typing import Final


class Phase(enum.IntEnum):
    """IntEnum, because a plain Enum hashes in Python code: 0.15 us for each look-up in MOVES."""

    IDLE = enum.auto()  # between exchanges; the keep-alive deadline runs
    HEADER = enum.auto()  # request line or header section incomplete; the header deadline runs
    CONTENT = enum.auto()  # header section complete, content still arriving; the content rate is watched
    RUNNING = enum.auto()  # request complete, the model is at work
    SENDING = enum.auto()  # status line written, response incomplete
    LINGERING = enum.auto()  # last response written and our side shut down; what still arrives is discarded
    CLOSED = enum.auto()


MOVES: Final = {
    # IDLE -> RUNNING: a whole request came in one read, the usual case.
    Phase.IDLE: frozenset({Phase.HEADER, Phase.CONTENT, Phase.RUNNING, Phase.LINGERING, Phase.CLOSED}),
    Phase.HEADER: frozenset({Phase.CONTENT, Phase.RUNNING, Phase.LINGERING, Phase.CLOSED}),
    Phase.CONTENT: frozenset({Phase.RUNNING, Phase.LINGERING, Phase.CLOSED}),
    # RUNNING -> IDLE: a response written in one piece.
    Phase.RUNNING: frozenset({Phase.IDLE, Phase.SENDING, Phase.LINGERING, Phase.CLOSED}),
    Phase.SENDING: frozenset({Phase.IDLE, Phase.LINGERING, Phase.CLOSED}),
    Phase.LINGERING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}
