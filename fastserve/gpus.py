"""NVIDIA's GPUs as NVML tells of them: name, memory, utilization. Plain values, or none at all.

Reads them through pynvml, if that is installed (the extra `gpu`); never raises. Owned by `model/runtime.py`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

_logger: Final = logging.getLogger("fastserve")

T = TypeVar("T")

GIB: Final = 1 << 30


class Gpu(NamedTuple):
    """One GPU, now. number: NVML's. A value that it does not tell is None.

    utilization: of the last second or so, the part in which some kernel ran: 0.0 to 1.0.
    """

    number: int
    name: str
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    utilization: float | None

    def __str__(self) -> str:
        """For the log."""
        used, total = self.memory_used_bytes, self.memory_total_bytes
        memory = "" if used is None or total is None else f", {used / GIB:.1f} of {total / GIB:.1f} GiB in use"
        return f"GPU {self.number}: {self.name}{memory}"


class Gpus:
    """Those that this process may use, by CUDA_VISIBLE_DEVICES.

    at_load: as they were when the model had been loaded.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[tuple[int, Any]] = []
        self.at_load: list[Gpu] = []

    @property
    def are_readable(self) -> bool:
        """Whether it is worth a thread to `open` them: pynvml is there."""
        return "pynvml" in sys.modules or importlib.util.find_spec("pynvml") is not None

    def open(self) -> None:
        """Find them, and read them once. Without a driver or a GPU there are none. May block: on a thread."""
        try:
            self._nvml = nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            handles = [(index, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())]
            self._handles = self._visible(handles, os.environ.get("CUDA_VISIBLE_DEVICES"))
        except Exception as error:  # noqa: BLE001 - pynvml's own, or what its import raises
            _logger.debug("NVML tells nothing of GPUs: %s", error)
        self.at_load = self.read()

    def read(self) -> list[Gpu]:
        """Each of them as it is now. May block: on a thread."""
        return [self._read_one(index, handle) for index, handle in self._handles]

    def _read_one(self, index: int, handle: Any) -> Gpu:
        nvml = self._nvml
        memory = _ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        rates = _ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        return Gpu(
            index,
            _ask(lambda: _as_text(nvml.nvmlDeviceGetName(handle))) or "unknown",
            None if memory is None else int(memory.used),
            None if memory is None else int(memory.total),
            None if rates is None else rates.gpu / 100,
        )

    def _visible(self, handles: list[tuple[int, Any]], said: str | None) -> list[tuple[int, Any]]:
        """Those that `said`, a list of indices or of beginnings of UUIDs, names; up to the first it names in vain.

        CUDA counts the fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID, NVML by the bus: with unlike GPUs an index
        may mean another one.
        """
        if said is None:
            return handles
        found = []
        for word in said.replace(" ", "").split(","):
            named = [(index, handle) for index, handle in handles if self._is_named(word, index, handle)]
            if not named:
                break
            found += named
        return found

    def _is_named(self, word: str, index: int, handle: Any) -> bool:
        if word.startswith("GPU-"):
            return _as_text(self._nvml.nvmlDeviceGetUUID(handle)).startswith(word)
        return word == str(index)


def _as_text(name: Any) -> str:
    """pynvml gave bytes before version 12."""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _ask(question: Callable[[], T]) -> T | None:
    """Its answer, or None if this GPU has none: MIG slices and Jetsons tell less, a lost one nothing."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - NVMLError has a subclass for each reason
        return None
