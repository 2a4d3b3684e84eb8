"""What batching brings to MiniLM on fastserve, by batch size, length of text and cores. python -m bench.load.batching

One text a request; one by one and in batches take turns, so that the machine's drift falls on both. What the peers
make of batches, `python -m bench --workloads minilm` compares.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import environments, questions
from bench.contestants.field import BY_NAME, HERE, Contestant, Job
from bench.load.bars import Bar, tell
from bench.load.closed import Closed
from bench.questions import Question
from bench.server import LOAD_CORE, SERVER_CORE, Server, free_port

ALONE: Final = 1  # the size of a batch of one: the model without batching
CLIENTS: Final = 32
SIZES: Final = "8,16,32"
TOKENS: Final = "8,20,32"  # 20 has the sentence of the workload `minilm`
LEAST_TIMES: Final = 4.0
MOST_ADDED: Final = 1.05  # of the median at c=1; rounds differ by as much
WARM_S: Final = 1
ROUNDS: Final = 3
SECONDS: Final = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """Medians of the rounds. rate: requests a second at c=CLIENTS; median_ms: of the latency at c=1."""

    rate: float
    median_ms: float


def text_of(tokens: int) -> str:
    """A text of so many tokens, two of which are the model's own, before and behind."""
    return " ".join(["word"] * (tokens - 2))


def contestant_of(size: int, folder: Path) -> Contestant:
    """fastserve with batches of up to `size` texts. folder: for the model's directory, not there yet."""
    ours = BY_NAME["fastserve"]
    if size == ALONE:
        return ours
    shutil.copytree(HERE / "fastserve" / "batched", folder)
    (folder / "config.yaml").write_text(f"runtime:\n  batching:\n    max_batch_size: {size}\n")

    def command(job: Job) -> list[str]:
        return [str(job.python), "-m", "fastserve", str(folder), "--port", str(job.port)]

    return dataclasses.replace(ours, name=f"fastserve-{size}", command=command, code=ours.name)


@contextlib.contextmanager
def running(sizes: Sequence[int], cores: str, question: Question) -> Iterator[dict[int, Server]]:
    """A frozen server for each of `sizes`, on `cores`, with as many threads for torch. Raises ContestantError."""
    python = environments.ensure(BY_NAME["fastserve"])
    environment = {"BENCH_TORCH": str(environments.ensure_torch()), "OMP_NUM_THREADS": str(len(cores.split(",")))}
    servers: dict[int, Server] = {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as ends:
        for size in sizes:
            contestant = contestant_of(size, Path(scratch, str(size)))
            work = "minilm" if size == ALONE else "minilm_batched"
            job = Job(python, work, 1, free_port(), Path(scratch, f"run-{size}"))
            servers[size] = Server(contestant, job, question, environment, cores)
            ends.callback(servers[size].end)
            servers[size].start()
            servers[size].freeze()
        yield servers


def measure(servers: Mapping[int, Server], question: Question, rounds: int, seconds: int) -> dict[int, Measured]:
    """All of `servers` in turns, `rounds` times. Raises ContestantError for a wrong answer."""
    rates: dict[int, list[float]] = {size: [] for size in servers}
    medians: dict[int, list[float]] = {size: [] for size in servers}
    for _ in range(rounds):
        for size, server in servers.items():
            server.thaw()
            server.check(question)
            Closed(CLIENTS).drive(server, question, WARM_S)
            rates[size].append(Closed(CLIENTS).drive(server, question, seconds)["rps"])
            medians[size].append(Closed(1).drive(server, question, seconds)["p50_us"] / 1000)
            server.freeze()
    return {size: Measured(statistics.median(rates[size]), statistics.median(medians[size])) for size in servers}


def bars_of(tokens: int, measured: Mapping[int, Measured]) -> list[Bar]:
    """For each size of batch: how many times the rate of one by one, and what it adds to the latency at c=1."""
    one = measured[ALONE]
    bars = []
    for size, batched in measured.items():
        if size != ALONE:
            times, added = batched.rate / one.rate, batched.median_ms / one.median_ms
            what = f"{tokens} tokens, batches of {size}"
            rates = f"{one.rate:.1f} -> {batched.rate:.1f} requests/s"
            bars.append(
                Bar(f"{what}, c={CLIENTS}: {rates}, {times:.2f} times of {LEAST_TIMES:g}", times >= LEAST_TIMES)
            )
            latency = f"{one.median_ms:.2f} -> {batched.median_ms:.2f} ms"
            bars.append(Bar(f"{what}, c=1: p50 {latency}, x{added:.3f} of x{MOST_ADDED:g}", added <= MOST_ADDED))
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default=str(SERVER_CORE), metavar="A,B", help="of the server; the load is on 1")
    parser.add_argument("--sizes", default=SIZES, metavar="A,B", help=f"of batches, {SIZES}")
    parser.add_argument("--tokens", default=TOKENS, metavar="A,B", help=f"of a text, {TOKENS}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--seconds", type=int, default=SECONDS, metavar="S", help="of each round and load")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    sizes = [ALONE, *(int(size) for size in options.sizes.split(","))]
    status = 0
    with running(sizes, options.cores, questions.minilm_batched()) as servers:
        for tokens in (int(count) for count in options.tokens.split(",")):
            question = questions.minilm_batched(text_of(tokens))
            measured = measure(servers, question, options.rounds, options.seconds)
            status |= tell(bars_of(tokens, measured))
    return status


if __name__ == "__main__":
    sys.exit(main())
