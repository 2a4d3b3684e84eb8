"""How many threads torch computes with on the CPU, when several predicts run at once.

torch starts as many as there are cores for each thread that calls it: predicts side by side then fight for the cores
(LitServe issue 453: 4 workers, 40 ms became 3 s). Called by `version.py`, before `load`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_logger: Final = logging.getLogger("fastserve")

# Who sets one of these has chosen; torch itself obeys them.
VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# In a container with a limit (docker run --cpus, Kubernetes' limits.cpu): microseconds of time in each of so many.
QUOTA_FILE: Final = Path("/sys/fs/cgroup/cpu.max")


def share_cores(slots: int, environ: Mapping[str, str] = os.environ) -> None:
    """Give each of so many predicts its share of the cores, unless the user has chosen a number.

    Does nothing if the model has not imported torch by now. `load` comes after this, and may choose another number.
    """
    torch: Any = sys.modules.get("torch")
    if slots == 1 or torch is None or any(environ.get(name) for name in VARIABLES):
        return
    cores = count_cores()
    present, share = torch.get_num_threads(), max(1, int(min(cores, cpu_quota(QUOTA_FILE))) // slots)
    # torch's own choice is a thread for each core, or for each two of them if those are hyperthreads of one.
    if present not in (cores, cores // 2) or present <= share:
        return
    torch.set_num_threads(share)
    _logger.info(
        "torch computes with %d of %d threads, since %d predicts may run at once; OMP_NUM_THREADS sets another",
        share,
        present,
        slots,
    )


def count_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(file: Path) -> float:
    """How many cores' time this container gets, however many it sees; infinite without a limit."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no cgroup of version 2; `max`
        return float("inf")
