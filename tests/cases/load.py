"""Every case there is, by rule: gathers what the files of `data/` hold.

Each file has CASES, the number of a rule to its cases. Called by the runners and their tests.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.cases import data
from tests.cases.case import Case


def load_cases() -> dict[str, list[Case]]:
    """The number of each rule that has cases, in order, with all of them."""
    found: dict[str, list[Case]] = {}
    for file in pkgutil.iter_modules(data.__path__):
        module = importlib.import_module(f"{data.__name__}.{file.name}")
        for row, cases in module.CASES.items():
            found.setdefault(row, []).extend(cases)
    return dict(sorted(found.items()))


def all_cases() -> list[Case]:
    return [case for cases in load_cases().values() for case in cases]
