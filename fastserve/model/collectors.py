"""The metrics of a model that is loaded anew: registered under the names that the version before has taken.

`prometheus_client` refuses a name that is taken, since as a rule that is a mistake. Used by `reload.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any, Final
from weakref import WeakSet

LIBRARY: Final = "prometheus_client"

# What is needed of a registry and is not public; there since 2017.
_INSIDES: Final = ("_collector_to_names", "_names_to_collectors", "_get_names")


class Collectors:
    """The default registry of the process, while one version of the model follows another."""

    def __init__(self) -> None:
        self._registry: Any = None
        self._older = WeakSet[Any]()  # registered before the version that is being loaded, or serves
        self._replaced: list[Any] = []

    def begin(self, modules: Collection[str]) -> None:
        """Another version is about to be loaded, and `modules` with it: what is registered now may be replaced.

        Collectors of classes that the model itself defines go at once: they need not say which names they have.
        """
        self._replaced = []
        registry = getattr(sys.modules.get(LIBRARY), "REGISTRY", None)
        if not all(hasattr(registry, name) for name in _INSIDES):  # not imported, or of another build
            return
        if self._registry is None:
            self._registry = registry
            self._register = self._registry.register
            self._registry.register = self._replace
        registered = list(self._registry._collector_to_names)
        self._older = WeakSet(registered)
        for collector in registered:
            if type(collector).__module__ in modules:
                self._take_away(collector)

    def go_back(self) -> None:
        """That version has failed: the collectors it has replaced are registered again."""
        replaced, self._replaced = self._replaced, []
        for collector in replaced:
            self._make_room(collector, list(self._registry._collector_to_names))
            self._register(collector)
        self._replaced = []

    def keep(self) -> None:
        """That version serves."""
        self._replaced = []

    def _replace(self, collector: Any) -> None:
        """What `register` is from the second version on. A name that a version takes twice is still refused."""
        self._make_room(collector, self._older)
        self._register(collector)

    def _make_room(self, collector: Any, removable: Collection[Any]) -> None:
        taken = self._registry._names_to_collectors
        names = self._registry._get_names(collector)
        for older in {taken[name] for name in names if name in taken}:
            if older in removable:
                self._take_away(older)

    def _take_away(self, collector: Any) -> None:
        self._registry.unregister(collector)
        self._replaced.append(collector)
