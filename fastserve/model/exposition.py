"""What a model registers with `prometheus_client`, in Prometheus's text: its names as they are, and nothing else.

Imports the library only if the model has; without it there is nothing to show. Called by `runtime.py` and
`endpoints/metrics.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

LIBRARY: Final = "prometheus_client"
PLAIN_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

# Registered by the library itself when it is imported; Truss takes them away too.
_DEFAULT_COLLECTORS: Final = ("PROCESS_COLLECTOR", "PLATFORM_COLLECTOR", "GC_COLLECTOR")


class ModelMetrics:
    """The default registry of the process, if the model has one."""

    def __init__(self) -> None:
        self._is_bare = False

    def strip(self) -> None:
        """Leave only what the model itself registers, once: what it adds or turns on later stays.

        Without the process, platform and gc collectors, and without a `_created` series beside each counter.
        """
        library = _library()
        if library is None or self._is_bare:
            return
        self._is_bare = True
        for name in _DEFAULT_COLLECTORS:
            with contextlib.suppress(KeyError, AttributeError):  # the model has done so, or the library has none
                library.REGISTRY.unregister(getattr(library, name))
        with contextlib.suppress(AttributeError):
            library.disable_created_metrics()

    def expose(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """(content, Content-Type). Blocks, and raises whatever the model's own collectors do.

        accept: the Accept field; OpenMetrics for whoever asks for it. names: only these series, or all if empty.
        """
        self.strip()
        library = _library()
        if library is None:
            return b"", PLAIN_TEXT
        registry = library.REGISTRY.restricted_registry(names) if names else library.REGISTRY
        encode, content_type = importlib.import_module(LIBRARY + ".exposition").choose_encoder(accept)
        return encode(registry), content_type


def _library() -> Any:
    """The library if the model has imported it. Waits for an import that is under way."""
    return importlib.import_module(LIBRARY) if LIBRARY in sys.modules else None
