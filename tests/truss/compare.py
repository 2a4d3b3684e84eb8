"""Our answers beside Truss's: asks our server the questions of `cases.py`, and says where the two part.

Called by `test_answers.py`. `python -m tests.truss.compare [MODEL ...]` prints the table.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.process import Server, serving
from tests.truss.cases import DYNAMIC_CONFIG, ENVIRONMENT, MODELS, QUESTIONS, SECRET_FILES
from tests.truss.exchange import Seen
from tests.truss.record import ANSWERS, put

JSON: Final = "application/json"


@contextlib.contextmanager
def our_server(model: str, *flags: str) -> Iterator[Server]:
    """Our server with a model of `cases.py`, and around it what that says."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, files in (("secrets", SECRET_FILES), ("dynamic", DYNAMIC_CONFIG.get(model, {}))):
            (root / name).mkdir()
            for file, content in files.items():
                (root / name / file).write_text(content)
        places = ("--secrets-path", str(root / "secrets"), "--dynamic-config-path", str(root / "dynamic"))
        with serving(MODELS / model, *places, *flags, env=ENVIRONMENT) as server:
            yield server


def our_answers(model: str, *flags: str) -> dict[str, Seen]:
    """What our server answers about one model, by the names of the questions."""
    with our_server(model, *flags) as server:
        return {name: put(server.port, question) for name, question in QUESTIONS[model].items()}


def truss_answers(model: str) -> dict[str, Seen]:
    """What Truss's server answered, as recorded."""
    recorded = json.loads(ANSWERS.read_text())["models"][model]
    return {name: said["answer"] for name, said in recorded.items()}


def parsed(answer: Seen) -> Any:
    """`answer` with its content as the value that JSON means, and without its length: how it is spelled is free."""
    fields = answer.get("fields", {})
    if "content" not in answer or fields.get("content-type") != JSON:
        return answer
    try:
        value = json.loads(answer["content"], parse_constant=str)
    except ValueError:
        return answer
    kept = {name: said for name, said in fields.items() if name != "content-length"}
    return {**answer, "fields": kept, "content": [value]}


def main() -> None:
    flags = [word for word in sys.argv[1:] if word.startswith("-")]
    chosen = [word for word in sys.argv[1:] if not word.startswith("-")]
    for model in chosen or QUESTIONS:
        ours, truss = our_answers(model, *(word for flag in flags for word in flag.split("="))), truss_answers(model)
        for name, answer in truss.items():
            if parsed(ours[name]) != parsed(answer):
                print(f"{model} / {name}\n  truss {_short(answer)}\n  ours  {_short(ours[name])}")


def _short(answer: Seen) -> str:
    written = json.dumps(answer, ensure_ascii=False)
    return written if len(written) < 400 else written[:400] + "..."


if __name__ == "__main__":
    main()
