"""Whether a peer that says nothing is still there: when a ping is due, and when its pong is overdue.

A clock and two times; no I/O. Owned by `session.py`, which asks at each sweep. Source: RFC 6455 section 5.5.2.
"""

from __future__ import annotations


class Pings:
    """One ping at a time. Whatever is received shows that the peer lives: a pong cannot come within a long frame."""

    __slots__ = ("_awaited", "_count", "_heard", "_interval_s", "_sent", "_timeout_s")

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._sent = now  # the latest ping
        self._heard = now  # the latest sign of life
        self._count = 0
        self._awaited: bytes | None = None  # the payload of the pong that is to come

    def make(self, now: float) -> bytes:
        """The payload of a ping that is sent now."""
        self._sent = now
        self._count += 1
        self._awaited = b"%d" % self._count
        return self._awaited

    def hear(self, now: float) -> None:
        """The peer lives, or cannot be heard for now."""
        self._heard = now

    def on_pong(self, payload: bytes) -> None:
        """A pong; one that was not asked for means nothing (RFC 6455 section 5.5.3)."""
        if payload == self._awaited:
            self._awaited = None

    def is_due(self, now: float) -> bool:
        return self._awaited is None and now - self._sent >= self._interval_s

    def is_overdue(self, now: float) -> bool:
        return self._awaited is not None and now - max(self._sent, self._heard) > self._timeout_s
