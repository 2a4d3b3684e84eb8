"""The run that coverage guides: starts atheris on the corpus, keeps of what it finds the least that reaches as much.

What is called with its bytes is `guided_target.py`. Called by `__main__.py` for --guided.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.choices import Seeded
from tests.fuzz.guided_target import MAX_BYTES, decode, encode
from tests.fuzz.mutation import TOKENS
from tests.fuzz.reach import reduce
from tests.fuzz.scenario import Scenario
from tests.fuzz.streams import make_any

SEEDS: Final = 300  # generated beside the corpus


def run_guided(seconds: float) -> int:
    """Fuzz for so long, then replace corpus.REACHED. Returns 1 if something failed."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install 'fastserve[fuzz]', on a Python that it has a build for")
        return 2
    with tempfile.TemporaryDirectory() as name:
        found, seeds = Path(name, "found"), Path(name, "seeds")
        found.mkdir()
        seeds.mkdir()
        scenarios = _write_seeds(seeds)
        tokens = Path(name, "tokens")
        tokens.write_text("".join(f'"{_quote(token)}"\n' for token in TOKENS))
        options = [f"-max_len={MAX_BYTES}", f"-artifact_prefix={name}/", "-print_final_stats=1", f"-dict={tokens}"]
        if _run(str(found), str(seeds), *options, f"-max_total_time={seconds:.0f}") != 0:
            print(f"FAILED: the input is the newest in {corpus.FINDS}")
            return 1
        scenarios += [decode(file.read_bytes()) for file in found.iterdir()]
    kept = reduce(scenarios)
    corpus.write(corpus.REACHED, kept)
    print(f"{len(kept)} of {len(scenarios)} inputs are kept in {corpus.REACHED}")
    return 0


def _run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "tests.fuzz.guided_target", *arguments], check=False).returncode


def _write_seeds(directory: Path) -> list[Scenario]:
    """The corpus, and generated streams beside it. Returns what was written."""
    streams = corpus.read_streams()
    generated = [make_any(Seeded(f"guided:{number}"), streams) for number in range(SEEDS)]
    written = []
    for number, scenario in enumerate([*corpus.read(corpus.FINDS, corpus.REACHED), *generated]):
        if len(scenario.raw) < MAX_BYTES:
            (directory / str(number)).write_bytes(encode(scenario))
            written.append(scenario)
    return written


def _quote(token: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in token)
