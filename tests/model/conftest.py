"""The runtime with a model in it, for all files here that want one."""

from __future__ import annotations

from tests.model.test_runtime import serve as serve
