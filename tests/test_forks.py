"""What is done about signals around a fork; that it works is seen in tests/server/test_lifecycle.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from fastserve.forks import part_signals_at_fork


def test_around_a_fork_a_signal_waits_and_the_new_process_has_handlers_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks: dict[str, Callable[[], None]] = {}
    monkeypatch.setattr(os, "register_at_fork", lambda **given: hooks.update(given))
    part_signals_at_fork()
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        hooks["before"]()
        signal.raise_signal(signal.SIGTERM)
        assert came == []
        hooks["after_in_parent"]()
        assert came == [signal.SIGTERM]
        hooks["before"]()
        hooks["after_in_child"]()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGTERM, before)
