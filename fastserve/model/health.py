"""A model's own word on whether it is well: `is_healthy`, asked once for each probe.

Says nothing of loading and draining, which are the server's. Made by `runtime.py`, asked by `endpoints/probes.py`.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from fastserve.errors import text_of
from fastserve.model.contract import Method
from fastserve.model.hooks import Hooks

_logger: Final = logging.getLogger("fastserve")


class HealthCheck:
    """Truss's rules: truth decides; None says nothing, yet is logged; what is raised means no."""

    def __init__(self, method: Method, hooks: Hooks) -> None:
        self._method = method
        self._hooks = hooks

    async def is_healthy(self) -> bool:
        """Ask the model. Whatever is wrong is logged. Raises only CancelledError."""
        answer, error = await self._hooks.call(self._method, None, _as_truth)
        if error is not None:
            self._hooks.log(f"Exception while checking if model is healthy: {text_of(error)}", error)
        if not answer:
            _logger.warning("Health check failed.")
        return bool(answer) or (answer is None and error is None)


def _as_truth(answer: Any) -> bool | None:
    """Where the answer was made: the truth of a CUDA tensor, say, takes its time."""
    return None if answer is None else bool(answer)
