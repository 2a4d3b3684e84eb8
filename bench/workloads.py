"""The workloads: what is asked of every contestant, how it is loaded, and which plots its figures belong to.

Leaves the asking to the loads and the turns to bench/rounds.py. A workload's name is what `--workloads` takes; a name
of several (`sync`, `stream`) is the part before the first dash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench import questions
from bench.load.closed import Closed
from bench.load.idle import Idle
from bench.load.one_by_one import OneByOne
from bench.load.paced import Paced
from bench.questions import Question

MB: Final = 1_000_000
CHUNKS: Final = 10_000
BIG_JSON_CONNECTIONS: Final = 8  # enough to keep one core busy, and 8 times 1 MB is no test of memory


class HalfLoad:
    """Open loop at half of what the contestant answers at most, which bench/rounds.py finds out first."""


class Start:
    """No load: each round starts the contestant anew."""


@dataclass(frozen=True)
class Workload:
    """name: on the command line; title: in reports; work: of contestants/shared/work.py; slots: predicts at once.

    most_rounds: for one that takes long and says the same each time.
    plot: the axis this belongs to (a key of bench/report/plots.py), at: where on it.
    """

    name: str
    title: str
    work: str
    question: Question
    load: Closed | OneByOne | Paced | HalfLoad | Idle | Start
    slots: int = 1
    most_rounds: int = 100
    plot: str = ""
    at: float = 0
    needs_torch: bool = False

    @property
    def family(self) -> str:
        """What `--workloads` calls this and its like."""
        return self.name.partition("-")[0]


def _trivial(name: str, title: str, work: str) -> list[Workload]:
    return [
        Workload(f"{name}-c{c}", f"{title}, c={c}", work, questions.trivial(), Closed(c), plot=name, at=c)
        for c in (1, 8, 64, 256, 1024)
    ]


def _heads() -> list[Workload]:
    """wrk repeats one short header section; real ones are longer, and with a tracing proxy never the same."""
    kinds = (
        ("many", "20 header fields", ("many",)),
        ("varied", "every header section differs", ("varied",)),
        ("varied-many", "20 header fields, every section differs", ("varied", "many")),
    )
    return [
        Workload(f"heads-{name}", f"trivial JSON, {title}, c=64", "echo", questions.trivial(), Closed(64, heads))
        for name, title, heads in kinds
    ]


def _json() -> list[Workload]:
    sizes = (("1k", 1000), ("10k", 10_000), ("100k", 100_000), ("1m", MB))
    return [
        Workload(
            f"json-{name}",
            f"JSON of {name.upper()}B there and back, c={BIG_JSON_CONNECTIONS}",
            "echo",
            questions.of_size(size),
            Closed(BIG_JSON_CONNECTIONS),
            plot="json",
            at=size,
        )
        for name, size in sizes
    ]


def _large() -> list[Workload]:
    makers = (
        ("upload", "raw bytes up", questions.upload),
        ("download", "raw bytes down", questions.download),
        ("tensor", "msgpack tensor up and down", questions.tensor),
    )
    return [
        Workload(
            f"{work}-{megabytes}m",
            f"{megabytes} MB {title}",
            work,
            make(megabytes * MB),
            OneByOne(megabytes * MB),
            plot=work,
            at=megabytes * MB,
        )
        for work, title, make in makers
        for megabytes in (1, 10, 100)
    ]


def _streams() -> list[Workload]:
    return [
        Workload("stream-sync", "10,000 chunks, generator", "stream", questions.stream(CHUNKS), OneByOne(CHUNKS)),
        Workload(
            "stream-coroutine",
            "10,000 chunks, async generator",
            "stream_coroutine",
            questions.stream(CHUNKS),
            OneByOne(CHUNKS),
        ),
        Workload(
            "paced",
            "a chunk each 10 ms, 64 streams, async generator",
            "paced",
            questions.paced(2),
            Paced(64),
            slots=64,
        ),
    ]


def _models() -> list[Workload]:
    mlp = [
        Workload(f"mlp-c{c}", f"MLP on torch, c={c}", "mlp", questions.mlp(), Closed(c), needs_torch=True)
        for c in (1, 32)
    ]
    minilm = [
        Workload(
            f"minilm-c{c}", f"MiniLM embeddings, c={c}", "minilm", questions.minilm(), Closed(c), needs_torch=True
        )
        for c in (1, 8, 32)
    ]
    batched = [
        Workload(
            f"minilm-batched-c{c}",
            f"MiniLM embeddings, batches of up to 32, c={c}",
            "minilm_batched",
            questions.minilm_batched(),
            Closed(c),
            needs_torch=True,
        )
        for c in (1, 32)
    ]
    return mlp + minilm + batched


def _slots() -> list[Workload]:
    trivial = Workload("slots4-sync", "trivial JSON, 4 slots, c=64", "echo", questions.trivial(), Closed(64), slots=4)
    sleeps = [
        Workload(
            f"sleep-slots{slots}",
            f"predict sleeps 1 ms, {slots} slots, c=64",
            "sleep",
            questions.trivial(),
            Closed(64),
            slots=slots,
            plot="slots",
            at=slots,
        )
        for slots in (1, 2, 4, 8, 16)
    ]
    matmul = Workload(
        "matmul-slots4",
        "predict in torch without the GIL, 4 slots, c=64",
        "matmul",
        questions.matmul(),
        Closed(64),
        slots=4,
        needs_torch=True,
    )
    return [trivial, *sleeps, matmul]


WORKLOADS: Final = (
    *_trivial("sync", "trivial JSON", "echo"),
    *_heads(),
    *_json(),
    Workload("half", "trivial JSON at half of capacity, open loop", "echo", questions.trivial(), HalfLoad()),
    Workload(
        "idle", "10,000 idle connections, and c=64 beside", "echo", questions.trivial(), Idle(10_000), most_rounds=1
    ),
    Workload("start", "start to the first right answer", "echo", questions.trivial(), Start()),
    *_trivial("coroutine", "trivial JSON, coroutine", "echo_coroutine"),
    Workload("steps-c64", "trivial JSON, pre + predict + post, c=64", "echo_steps", questions.trivial(), Closed(64)),
    *_streams(),
    *_large(),
    *_models(),
    *_slots(),
)
BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}

# What a run without arguments does: minutes, not hours, and the table of the README.
QUICK: Final = ("sync-c64", "sync-c1", "coroutine-c64", "half", "stream-sync", "start")
QUICK_CONTESTANTS: Final = ("floor", "protocol", "fastserve", "uvicorn", "fastapi")


def named(words: list[str]) -> list[Workload]:
    """The workloads that `words` name, in the order of WORKLOADS. Raises ValueError for a word that names none."""
    chosen: set[str] = set()
    for word in words:
        found = [name for name, workload in BY_NAME.items() if word in (name, workload.family)]
        if not found:
            raise ValueError(f"no workload {word!r}; there are {', '.join(BY_NAME)}")
        chosen.update(found)
    return [workload for workload in WORKLOADS if workload.name in chosen]


def first_question(work: str) -> Question:
    """The smallest that is put to `work`: a server that answers it is ready."""
    return next(workload.question for workload in WORKLOADS if workload.work == work)
