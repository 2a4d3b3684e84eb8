"""The contestants: what each one installs, how it is started for a piece of work, and what it does not offer.

Leaves installing to bench/environments.py and running to bench/server.py. Each folder beside this file holds one
contestant's own code, written as its documentation writes it; `shared/work.py` is what all of them do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
MAX_CONTENT: Final = 200_000_000  # bytes, as in shared/work.py: no contestant refuses the largest upload

# What the msgpack tensors need; those of `fastserve` and `truss` come with them.
ARRAYS: Final = ("msgpack", "msgpack-numpy", "numpy")

NO_HTTP: Final = "parses no request"
LARGE: Final = ("upload", "download", "tensor")
STREAMS: Final = ("stream", "stream_coroutine", "paced")
PLAIN: Final = ("echo", "sleep", "mlp", "minilm", "matmul")
BATCHED: Final = ("minilm_batched",)
WORKS: Final = ("echo", "echo_coroutine", "echo_steps", *STREAMS, *LARGE, *PLAIN[1:], *BATCHED)
NO_BATCHES: Final = dict.fromkeys(BATCHED, "gathers no batches")


@dataclasses.dataclass(frozen=True)
class Job:
    """One start of a contestant. python: of its environment; folder: for what it writes, gone afterwards."""

    python: Path
    work: str
    slots: int
    port: int
    folder: Path


@dataclasses.dataclass(frozen=True)
class Contestant:
    """name: on the command line; title: in reports; package: whose version is told, None for one of ours.

    requirements: for pip, in the contestant's own environment. more: pip arguments of a second step; `{site}` is its
    site-packages. command: what to run, in the contestant's folder. path: of the request, `{work}` filled in.
    code: the folder beside this file, if another than name.
    lacks: works, or families of workloads, that it does not do, and why. is_wrapped: JSON travels in Cog's envelope.
    """

    name: str
    title: str
    package: str | None
    requirements: tuple[str, ...]
    command: Callable[[Job], list[str]]
    path: str = "/"
    more: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lacks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    code: str = ""
    is_wrapped: bool = False

    @property
    def folder(self) -> Path:
        return HERE / (self.code or self.name)


def _script(file: str) -> Callable[[Job], list[str]]:
    return lambda job: [str(job.python), file]


def _except(*works: str, why: str) -> dict[str, str]:
    return {work: why for work in WORKS if work not in works}


def _fastserve(job: Job) -> list[str]:
    own = {"upload": "large", "download": "large", "minilm_batched": "batched"}
    model = HERE / "fastserve" / own[job.work] if job.work in own else HERE / "truss_style"
    flags = ["--port", str(job.port), "--concurrency", str(job.slots), "--max-request-size", str(MAX_CONTENT)]
    # Beyond its default of 10,000 connections: the idle ones, and the load beside them.
    return [str(job.python), "-m", "fastserve", str(model), *flags, "--max-connections", "12000"]


def _truss(job: Job) -> list[str]:
    model = HERE / "truss" / "large" if job.work in ("upload", "download") else HERE / "truss_style"
    return [str(job.python), "serve.py", str(model), str(job.folder)]


def _uvicorn(application: str, *flags: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        serving = [str(job.python), "-m", "uvicorn", application, "--port", str(job.port), *flags]
        return [*serving, "--no-access-log", "--log-level", "warning"]

    return command


def _granian(job: Job) -> list[str]:
    serving = [str(job.python), "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--workers", "1"]
    # By default it holds 1,024 connections and leaves further ones waiting.
    limits = ["--backlog", "2048", "--backpressure", "12000"]
    return [
        *serving,
        "--port",
        str(job.port),
        *limits,
        "--no-access-log",
        "--log-level",
        "warning",
        "app:application",
    ]


def _mosec(job: Job) -> list[str]:
    # Its default of 3 s for a request is less than the 1,024 connections of one round wait for their turn; a queue of
    # 1,024 is just not enough for them.
    limits = ["--timeout", "60000", "--capacity", "4096", "--max-request-size", str(MAX_CONTENT)]
    serving = [str(job.python), "serve.py", "--address", "127.0.0.1", "--port", str(job.port)]
    return [*serving, *limits, "--log-level", "warning"]


def _bentoml(job: Job) -> list[str]:
    return [str(job.python), "-m", "bentoml", "serve", "service:Service", "--port", str(job.port)]


def _cog(job: Job) -> list[str]:
    predictor = {"echo_coroutine": "Coroutine", "echo_steps": "Steps"}.get(job.work, "Plain")
    # As `cog build` writes them into the image; `concurrency.max` of cog.yaml is for coroutines only.
    told = ["env", f"COG_PREDICT_TYPE_STUB=predict.py:{predictor}"]
    if predictor == "Coroutine":
        told.append("COG_MAX_CONCURRENCY=2048")
    return [*told, str(job.python), "-m", "cog.server.http", "--host", "127.0.0.1"]


CONTESTANTS: Final = (
    Contestant(
        "floor",
        "floor: a constant, nothing parsed",
        None,
        ("uvloop",),
        _script("serve.py"),
        lacks={**_except("echo", "echo_coroutine", "echo_steps", why=NO_HTTP), "json": NO_HTTP},
    ),
    Contestant(
        "sink",
        "floor of large content: blocking recv_into and sendall",
        None,
        (),
        _script("serve.py"),
        lacks=_except("upload", "download", why="only receives or sends"),
    ),
    Contestant(
        "protocol",
        "bare httptools + uvloop + orjson",
        None,
        ("uvloop", "httptools", "orjson"),
        _script("serve.py"),
        lacks=_except("echo", "echo_coroutine", "echo_steps", why="answers small JSON only"),
    ),
    Contestant(
        "fastserve",
        "fastserve",
        "fastserve",
        ("-e", f"{ROOT}[msgpack]", "numpy"),
        _fastserve,
        path="/v1/models/model:predict",
    ),
    Contestant(
        "uvicorn",
        "uvicorn, bare ASGI",
        "uvicorn",
        ("uvicorn", "uvloop", "httptools", "orjson", *ARRAYS),
        _uvicorn("app:application", "--loop", "uvloop", "--http", "httptools"),
        code="asgi",
        lacks=NO_BATCHES,
    ),
    Contestant(
        "granian",
        "granian, bare ASGI",
        "granian",
        ("granian", "uvloop", "orjson", *ARRAYS),
        _granian,
        code="asgi",
        lacks=NO_BATCHES,
    ),
    Contestant(
        "fastapi",
        "FastAPI on uvicorn",
        "fastapi",
        ("fastapi", "uvicorn[standard]", *ARRAYS),
        _uvicorn("app:app"),
        path="/{work}",
        lacks=NO_BATCHES,
    ),
    Contestant(
        "truss",
        "Truss's server",
        "truss",
        ("truss",),
        _truss,
        path="/v1/models/model:predict",
        more=("-r", "{site}/truss/templates/server/requirements.txt"),
        lacks=NO_BATCHES,
    ),
    Contestant(
        "litserve",
        "LitServe",
        "litserve",
        ("litserve", *ARRAYS),
        _script("serve.py"),
        path="/predict",
        lacks=dict.fromkeys(("upload", "tensor"), "reads content as JSON or as a form, whatever its type"),
    ),
    Contestant(
        "bentoml",
        "BentoML",
        "bentoml",
        ("bentoml", *ARRAYS),
        _bentoml,
        path="/predict",
        environment={"BENTOML_DO_NOT_TRACK": "True"},
        lacks={"download": "answers with files or JSON", "tensor": "has no msgpack"},
    ),
    Contestant(
        "mosec",
        "mosec",
        "mosec",
        ("mosec", *ARRAYS),
        _mosec,
        path="/inference",
        lacks=dict.fromkeys(("echo_coroutine", "stream_coroutine", "paced"), "has no coroutines"),
    ),
    Contestant(
        "cog",
        "Cog's server",
        "cog",
        ("cog", *ARRAYS),
        _cog,
        path="/predictions",
        lacks={
            **dict.fromkeys(STREAMS, "gathers what is yielded"),
            **dict.fromkeys(LARGE, "content is JSON"),
            **NO_BATCHES,
        },
        environment={"COG_LOG_LEVEL": "warning"},  # else two lines for each prediction
        is_wrapped=True,
    ),
    Contestant(
        "ray",
        "Ray Serve",
        "ray",
        ("ray[serve]", *ARRAYS),
        _script("serve_app.py"),
        # Its documentation's mode of high throughput, but for HAProxy, which would listen on all interfaces.
        environment={
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_LOG_TO_STDERR": "0",
        },
    ),
)
BY_NAME: Final = {contestant.name: contestant for contestant in CONTESTANTS}
