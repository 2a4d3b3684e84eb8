"""fastserve alone: one model directory, served by the environment that this runs in.

Leaves how a server is started and ended to bench/server.py. For the loads that compare nothing: probes, endurance,
hostile, soak.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.contestants.field import BY_NAME, ROOT, Job
from bench.questions import Question
from bench.server import SERVER_CORE, Server, free_port

MODELS: Final = ROOT / "bench" / "models"


@contextlib.contextmanager
def alone(
    model: Path,
    question: Question,
    flags: tuple[str, ...] = (),
    cores: str = str(SERVER_CORE),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve `model` on `cores` once it answers `question`. Raises ContestantError if it does not.

    environment: variables besides those of this process.
    """

    def command(job: Job) -> list[str]:
        return [sys.executable, "-m", "fastserve", str(model), "--port", str(job.port), *flags]

    ours = dataclasses.replace(BY_NAME["fastserve"], command=command, environment={"PYTHONPATH": str(ROOT)})
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(sys.executable), model.name, 1, free_port(), Path(folder))
        server = Server(ours, job, question, environment or {}, cores)
        try:
            server.start()
            yield server
        finally:
            server.end()
