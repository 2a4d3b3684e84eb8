"""What perf prints becomes shares of a whole, each of a kind that a reader knows."""

from __future__ import annotations

import pytest

from bench.shares import COLUMNS, KINDS, SHOWN, read_shares
from bench.workloads import BY_NAME

REPORT = """\
# Samples: 8K of event 'cpu-clock:pppH'
#
# Overhead  Shared Object
# ........  ......................................
#
    48.68%  [kernel.kallsyms]
    39.44%  libpython3.11.so.1.0
     4.89%  loop.cpython-311-x86_64-linux-gnu.so
     3.87%  libc.so.6
     2.46%  orjson.cpython-311-x86_64-linux-gnu.so
     0.53%  _asyncio.cpython-311-x86_64-linux-gnu.so
     0.13%  [vdso]
"""


def test_each_object_counts_for_its_kind() -> None:
    shares = read_shares(REPORT)
    assert shares == pytest.approx(
        {
            "kernel": 0.4881,
            "interpreter": 0.3944,
            "uvloop": 0.0489,
            "httptools": 0,
            "orjson": 0.0246,
            "C library": 0.0387,
            "other": 0.0053,
        }
    )
    assert sum(shares.values()) == pytest.approx(1)


def test_all_kinds_have_a_column_and_all_names_a_workload() -> None:
    assert {kind for _, kind in KINDS} < set(COLUMNS)
    assert all(name in BY_NAME for _, names in SHOWN for name in names)
